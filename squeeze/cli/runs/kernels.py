"""The switch to the project's own kernels, for runs on a GPU where Triton is installed."""

from __future__ import annotations

import importlib
import importlib.util

import torch

KERNELS = "squeeze.train.model.kernels"


def use_kernels(device: torch.device) -> None:
    """Let forwards on a GPU that are not compiled run through the kernels."""
    if device.type == "cuda" and importlib.util.find_spec("triton") is not None:
        importlib.import_module(KERNELS).use_kernels()
