"""Quantization-aware training: the forward reads rounded weights, the exact ones get the gradient.

The grid is that of `squeeze pack --quant BITS:K` (record entries' int6): row by row uniform, step
k·σ/(2^(bits−1)−1) with σ the root mean square of the row, rounded to fp16 as it is stored; codes are
nearest and clipped to ±(2^(bits−1)−1). A trellis or GPTQ packer places its points on a grid of the
same kind, so no column and no path of a trellis enters here.

Straight-through by exchange: before the forward the rounded weights take the place of the exact ones,
in the same memory; after the backward the exact ones return and the optimizer applies the gradient
found at the rounded point. The model knows nothing of it, so there is no branch that a compiler could
drop: whatever computes the loss, compiled or not, reads the rounded weights.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from squeeze.train.optim.recipe import Recipe

LEAST_STEP, LARGEST_STEP = 2.0**-24, 65504.0  # of fp16


@dataclass(frozen=True)
class Grid:
    """Grid of codes of `bits` bits; rows clip at k standard deviations, at their maximum if k is 0."""

    bits: int
    k: float

    @property
    def largest(self) -> int:
        """Largest code."""
        return (1 << (self.bits - 1)) - 1

    def steps(self, weights: Tensor) -> Tensor:
        """Return the step of each row [..., rows, 1] of weights [..., rows, cols], float32."""
        if self.k:
            clip = self.k * weights.square().mean(dim=-1, keepdim=True).sqrt_()
        else:
            clip = weights.abs().amax(dim=-1, keepdim=True)
        steps = (clip / self.largest).clamp_(LEAST_STEP, LARGEST_STEP)
        return steps.half().float()

    def rounded(self, weights: Tensor) -> Tensor:
        """Return the nearest values on the grid, float32, in the shape of the weights."""
        steps = self.steps(weights)
        return (weights / steps).round_().clamp_(-self.largest, self.largest).mul_(steps)


def code_bits(weights: Tensor, steps: Tensor) -> Tensor:
    """Return bits log₂(1 + |w|/step) for each weight: about what an adaptive code spends on a magnitude.

    `QuantizationAware.add_rate_gradient_` adds its slope, which is largest at zero and clears small
    weights first. It is a smooth stand-in for the entropy coder, up to a constant for the sign and the
    spread of each level.
    """
    return torch.log2(1.0 + weights.abs() / steps)


class QuantizationAware:
    """Rounding of the matrices of blocks, embeddings and head while it is `on`.

    matrices, tables: parameters [rows, cols] by name; those of one shape are rounded together
    """

    def __init__(
        self, matrices: dict[str, Tensor], tables: dict[str, Tensor], recipe: Recipe
    ) -> None:
        self.on = False
        self.rate = recipe.qat_rate
        kinds = (
            (matrices, Grid(recipe.qat_bits, recipe.qat_k)),
            (tables, Grid(recipe.qat_table_bits, recipe.qat_table_k)),
        )
        by_shape: dict[tuple[Grid, torch.Size], list[Tensor]] = defaultdict(list)
        for weights, grid in kinds:
            for weight in weights.values():
                by_shape[grid, weight.shape].append(weight)
        self.banks = [(grid, weights) for (grid, _), weights in by_shape.items()]
        self.count = sum(weight.numel() for _, weights in self.banks for weight in weights)

    @contextmanager
    def rounded(self) -> Iterator[None]:
        """Put the weights on the grid; afterwards they are exactly what they were."""
        if not self.on:
            yield
            return
        exact_weights = []
        with torch.no_grad():
            for grid, weights in self.banks:
                exact = torch.stack([weight.detach() for weight in weights])
                torch._foreach_copy_(weights, list(grid.rounded(exact).unbind()))
                exact_weights.append(exact)
        try:
            yield
        finally:
            with torch.no_grad():
                for (_, weights), exact in zip(self.banks, exact_weights, strict=True):
                    torch._foreach_copy_(weights, list(exact.unbind()))

    @torch.no_grad()
    def add_rate_gradient_(self) -> None:
        """Add the gradient of qat_rate · mean(code_bits) to that of every quantized weight.

        Steps count as constants: the term moves weights towards zero within their grid, it does not
        trade the grid itself.
        """
        if not (self.on and self.rate):
            return
        factor = self.rate / (self.count * math.log(2.0))
        for grid, weights in self.banks:
            for weight in weights:
                if weight.grad is not None:
                    slope = weight.sign() / (weight.abs() + grid.steps(weight))
                    weight.grad.add_(slope, alpha=factor)
