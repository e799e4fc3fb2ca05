"""Optimizers: Muon for the blocks' matrices, Adam for embeddings, head and small parameters."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)
NEWTON_SCHULZ_STEPS = 5


def orthogonalize(matrices: Tensor) -> Tensor:
    """Push the singular values of matrices [n, rows, cols] towards 1, keeping their vectors.

    Five steps of a quintic Newton–Schulz iteration whose coefficients trade exactness for slope at
    zero: singular values end up in about 0.7…1.2, which is all Muon needs (Keller Jordan, "Muon: an
    optimizer for hidden layers in neural networks", 2024, https://kellerjordan.github.io/posts/muon).
    bfloat16 on a GPU, the matrices' own dtype on a CPU.
    """
    a, b, c = NEWTON_SCHULZ
    x = matrices.bfloat16() if matrices.is_cuda else matrices
    wide = x.size(-1) >= x.size(-2)
    if not wide:
        x = x.mT
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(NEWTON_SCHULZ_STEPS):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return (x if wide else x.mT).to(matrices.dtype)


class Muon(torch.optim.Optimizer):
    """Momentum, Nesterov, orthogonalised: the update of a matrix [out, in] has all directions alike.

    The step is scaled by max(1, out / in) ** 0.5, as in the challenge's baseline. Matrices of one
    shape are orthogonalised together. Source: Keller Jordan, as `orthogonalize`.
    """

    def __init__(self, matrices: Iterable[Tensor], lr: float, momentum: float = 0.95) -> None:
        super().__init__(matrices, {"lr": lr, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """Update every matrix that has a gradient."""
        for group in self.param_groups:
            by_shape: dict[torch.Size, list[tuple[Tensor, Tensor]]] = defaultdict(list)
            for matrix in group["params"]:
                if matrix.grad is not None:
                    ahead = self._look_ahead(matrix, matrix.grad, group["momentum"])
                    by_shape[matrix.shape].append((matrix, ahead))
            for (rows, cols), pairs in by_shape.items():
                scale = max(1.0, rows / cols) ** 0.5
                updates = orthogonalize(torch.stack([ahead for _, ahead in pairs]))
                for (matrix, _), update in zip(pairs, updates, strict=True):
                    matrix.add_(update, alpha=-group["lr"] * scale)

    def _look_ahead(self, matrix: Tensor, gradient: Tensor, momentum: float) -> Tensor:
        """Nesterov's look-ahead gradient; the running average is kept in the optimizer's state."""
        state = self.state[matrix]
        if not state:
            state["average"] = torch.zeros_like(matrix)
        average: Tensor = state["average"]
        average.lerp_(gradient, 1.0 - momentum)
        return gradient.lerp(average, momentum)


def split_parameters(
    named: Iterable[tuple[str, Tensor]],
) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
    """(matrices of blocks, embedding and head, everything smaller), by the baseline's names."""
    matrices, tables, small = [], [], []
    for name, weight in named:
        if name in ("tok_emb.weight", "lm_head.weight"):
            tables.append(weight)
        elif name.endswith(".weight"):
            matrices.append(weight)
        else:
            small.append(weight)
    return matrices, tables, small
