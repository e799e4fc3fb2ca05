"""Arithmetic of the forwards that score and calibrate: float32, TF32 or bfloat16."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import torch

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
