"""The process around a script: what the script changes in it for itself is undone."""

from __future__ import annotations

import contextlib
import io
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import torch


@contextlib.contextmanager
def process_restored(file: Path) -> Iterator[None]:
    """Give a script a command line without arguments and an empty stdin; undo its settings.

    The command's own arguments are not the script's, however it parses them. Undone are the working
    folder, `sys.path`, and torch's default dtype and device, gradients and precision of products, all of
    which would change what the command itself reads, computes or reports.
    """
    argv, stdin, path, folder = sys.argv, sys.stdin, list(sys.path), os.getcwd()
    dtype, device = torch.get_default_dtype(), torch.get_default_device()
    gradients, precision = torch.is_grad_enabled(), torch.get_float32_matmul_precision()
    sys.argv, sys.stdin = [str(file)], io.StringIO()
    try:
        yield
    finally:
        sys.argv, sys.stdin, sys.path[:] = argv, stdin, path
        os.chdir(folder)
        torch.set_default_dtype(dtype)
        # setting it, even to the same, slows every function
        if torch.get_default_device() != device:
            torch.set_default_device(device if device.type != "cpu" else None)
        torch.set_grad_enabled(gradients)
        torch.set_float32_matmul_precision(precision)
