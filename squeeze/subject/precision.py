"""Arithmetic of the forwards that score and calibrate: float32, TF32 or bfloat16."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn

Forward = Callable[[nn.Module, Tensor], Tensor]
NewStep = Callable[[nn.Module, int, int], Any]

PRECISIONS = ("fp32", "tf32", "bf16")  # of the products of a forward


@contextmanager
def computing_in(precision: str, device: torch.device) -> Iterator[None]:
    """Compute products inside as a name of PRECISIONS says, on this thread.

    Weights stay float32, and so do sums over tokens.
    """
    before = torch.get_float32_matmul_precision()
    # casts that are kept would be memory of a captured graph
    halves = torch.autocast(device.type, torch.bfloat16, cache_enabled=False)
    try:
        if precision == "tf32":
            torch.set_float32_matmul_precision("high")
        with halves if precision == "bf16" else nullcontext():
            yield
    finally:
        torch.set_float32_matmul_precision(before)


def forward_in(precision: str, forward: Forward) -> Forward:
    """Return a forward that computes in a precision."""

    def run(module: nn.Module, ids: Tensor) -> Tensor:
        with computing_in(precision, ids.device):
            return forward(module, ids)

    return run


def device_of(module: nn.Module) -> torch.device:
    """Return the device of a module, whose tensors may all be buffers; the CPU where it has none."""
    return next(chain(module.parameters(), module.buffers()), torch.empty(0)).device


def step_in(precision: str, new: NewStep) -> NewStep:
    """Return the maker of an incremental forward whose steps compute in a precision."""

    def make(module: nn.Module, batch: int, length: int) -> Stepping:
        device = device_of(module)
        with computing_in(precision, device):
            return Stepping(new(module, batch, length), precision, device)

    return make


class Stepping:
    """An incremental forward whose steps compute in a precision."""

    def __init__(self, cache: Any, precision: str, device: torch.device) -> None:
        self.cache, self.precision, self.device = cache, precision, device

    def reset_(self) -> None:
        """Drop all tokens."""
        self.cache.reset_()

    def step(self, ids: Tensor) -> Tensor:
        """Return logits float32 [B, t, V] for the token after each of ids int64 [B, t]."""
        with computing_in(self.precision, self.device):
            logits: Tensor = self.cache.step(ids)
        return logits.float()
