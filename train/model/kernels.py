"""Triton kernels of `squeeze.train.model.operations`, for forwards on a GPU that are not compiled.

A row of logits is read once for its loss and once for its gradient, in 16 bits where the logits have
16, and no float32 copy of them is made (after the fused cross-entropy of #1787). The square of a relu
keeps only its input. TRITON_INTERPRET=1 runs them on a CPU, for the tests.
"""

# mypy: ignore-errors
from __future__ import annotations

import importlib
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from squeeze.train.model import operations

WIDEST = 4096  # logits read at a time
ELEMENTS = 1024


def use_kernels() -> None:
    """Let the operations run through the kernels of this module."""
    operations.kernels = importlib.import_module(__name__)


@triton.jit
def _bounded(at, logits, width, cap, CAPPED: tl.constexpr):
    x = tl.load(logits + at, mask=at < width, other=0.0).to(tl.float32)
    if CAPPED:
        x = cap * (2.0 * tl.sigmoid(2.0 * x / cap) - 1.0)
    return tl.where(at < width, x, float("-inf"))


@triton.jit
def _losses(logits, targets, nats, sums, cap, width, CAPPED: tl.constexpr, BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    logits += row * width
    largest, total = float("-inf"), 0.0
    for start in range(0, width, BLOCK):
        x = _bounded(start + tl.arange(0, BLOCK), logits, width, cap, CAPPED)
        now = tl.maximum(largest, tl.max(x, 0))
        total = total * tl.exp(largest - now) + tl.sum(tl.exp(x - now), 0)
        largest = now
    log_sum = largest + tl.log(total)
    target = tl.load(targets + row)
    chosen = tl.sum(_bounded(target + tl.arange(0, 1), logits, width, cap, CAPPED), 0)
    tl.store(sums + row, log_sum)
    tl.store(nats + row, log_sum - chosen)


@triton.jit
def _slopes(
    logits, targets, sums, scale, out, cap, width, CAPPED: tl.constexpr, BLOCK: tl.constexpr
):
    row = tl.program_id(0).to(tl.int64)
    logits += row * width
    out += row * width
    target, log_sum, factor = tl.load(targets + row), tl.load(sums + row), tl.load(scale)
    for start in range(0, width, BLOCK):
        at = start + tl.arange(0, BLOCK)
        x = _bounded(at, logits, width, cap, CAPPED)
        slope = tl.exp(x - log_sum) - tl.where(at == target, 1.0, 0.0)
        if CAPPED:
            slope *= 1.0 - (x / cap) * (x / cap)
        tl.store(out + at, (slope * factor).to(out.dtype.element_ty), mask=at < width)


@triton.jit
def _square(x, out, slope, count, BLOCK: tl.constexpr):
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    value = tl.load(x + at, mask=at < count, other=0.0).to(tl.float32)
    value = tl.where(value > 0, value, slope * value)
    tl.store(out + at, (value * value).to(out.dtype.element_ty), mask=at < count)


@triton.jit
def _square_slope(x, grad, out, slope, count, BLOCK: tl.constexpr):
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    value = tl.load(x + at, mask=at < count, other=0.0).to(tl.float32)
    ahead = tl.load(grad + at, mask=at < count, other=0.0).to(tl.float32)
    inner = tl.where(value > 0, value, slope * slope * value)
    tl.store(out + at, (2.0 * inner * ahead).to(out.dtype.element_ty), mask=at < count)


def row_losses(logits: Tensor, targets: Tensor, cap: float) -> tuple[Tensor, Tensor]:
    """See `operations.row_losses`."""
    logits, (rows, width) = logits.contiguous(), logits.shape
    nats, sums = (logits.new_empty(rows, dtype=torch.float32) for _ in range(2))
    block = min(WIDEST, triton.next_power_of_2(width))
    _losses[(rows,)](logits, targets, nats, sums, cap, width, CAPPED=cap > 0, BLOCK=block)
    return nats, sums


def row_slopes(logits: Tensor, targets: Tensor, sums: Tensor, scale: Tensor, cap: float) -> Tensor:
    """See `operations.row_slopes`."""
    logits, (rows, width) = logits.contiguous(), logits.shape
    out = torch.empty_like(logits)
    block = min(WIDEST, triton.next_power_of_2(width))
    _slopes[(rows,)](logits, targets, sums, scale, out, cap, width, CAPPED=cap > 0, BLOCK=block)
    return out


def squared(x: Tensor, slope: float) -> Tensor:
    """See `operations.powered`, whose power is 2 here."""
    result: Tensor = _Squared.apply(x, slope)
    return result


class _Squared(torch.autograd.Function):
    """The square of a leaky relu, whose gradient is computed from its input."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, slope: float) -> Tensor:
        x = x.contiguous()
        ctx.save_for_backward(x)
        ctx.slope, out = slope, torch.empty_like(x)
        _square[(triton.cdiv(x.numel(), ELEMENTS),)](x, out, slope, x.numel(), BLOCK=ELEMENTS)
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        (x,) = ctx.saved_tensors
        out = torch.empty_like(x)
        _square_slope[(triton.cdiv(x.numel(), ELEMENTS),)](
            x, grad.contiguous(), out, ctx.slope, x.numel(), BLOCK=ELEMENTS
        )
        return out, None
