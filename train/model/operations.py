"""Operations that have kernels of their own (`squeeze.train.model.kernels`), as plain PyTorch.

The plain form is the oracle of the kernel, what torch.compile makes kernels of itself, and what runs
wherever nobody called `kernels.use_kernels`.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

kernels: Any = None  # the module of kernels, once it is in use


def _fused(x: Tensor) -> bool:
    """Return whether a kernel takes x: it is on a GPU, and nothing is compiled."""
    return kernels is not None and not torch.compiler.is_compiling() and x.is_cuda


def capped(logits: Tensor, cap: float) -> Tensor:
    """Return cap·tanh(logits / cap), in the place of logits float32; the logits themselves for 0."""
    return cap * torch.tanh(logits.div_(cap)) if cap else logits


def _bounded(logits: Tensor, cap: float) -> Tensor:
    """Return logits float32 under their cap, and leave them as they are."""
    return cap * torch.tanh(logits.float() / cap) if cap else logits.float()


def row_losses(logits: Tensor, targets: Tensor, cap: float) -> tuple[Tensor, Tensor]:
    """Return nats and logarithms of the sums, float32 [N], of logits [N, V] before their cap.

    targets: int64 [N]
    """
    if _fused(logits):
        losses: tuple[Tensor, Tensor] = kernels.row_losses(logits, targets, cap)
        return losses
    bounded = _bounded(logits, cap)
    sums = bounded.logsumexp(-1)
    return sums - bounded.gather(-1, targets[:, None])[:, 0], sums


def row_slopes(logits: Tensor, targets: Tensor, sums: Tensor, scale: Tensor, cap: float) -> Tensor:
    """Return the gradient of scale · Σ nats by logits [N, V], in their dtype.

    sums: logarithms of the sums, as `row_losses` returns them
    scale: float32 []
    """
    if _fused(logits):
        slopes: Tensor = kernels.row_slopes(logits, targets, sums, scale, cap)
        return slopes
    bounded = _bounded(logits, cap)
    slope = (bounded - sums[:, None]).exp()
    slope = slope.scatter_add(-1, targets[:, None], torch.full_like(slope[:, :1], -1.0))
    if cap:
        slope = slope * (1.0 - (bounded / cap).square())
    return (slope * scale).to(logits.dtype)


def powered(x: Tensor, slope: float, power: int) -> Tensor:
    """Return relu(x) ** power, with a slope below zero."""
    if power == 2 and _fused(x):
        squared: Tensor = kernels.squared(x, slope)
        return squared
    x = F.leaky_relu(x, slope) if slope else torch.relu(x)
    return x**power
