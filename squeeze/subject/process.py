"""The process around a script: what the script changes in it for itself is undone."""

from __future__ import annotations

import contextlib
import io
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import torch

from squeeze.subject.defaults import Shared


@contextlib.contextmanager
def process_restored(file: Path) -> Iterator[None]:
    """Give a script a command line without arguments and an empty stdin; undo its settings.

    The command's own arguments are not the script's, however it parses them. Undone are the working
    folder, `sys.path`, and torch's default dtype and device, gradients and precision of products, all of
    which would change what the command itself reads, computes or reports.
    """
    argv, stdin, path, folder = sys.argv, sys.stdin, list(sys.path), os.getcwd()
    shared, device, gradients = (
        Shared.current(),
        torch.get_default_device(),
        torch.is_grad_enabled(),
    )
    sys.argv, sys.stdin = [str(file)], io.StringIO()
    try:
        yield
    finally:
        sys.argv, sys.stdin, sys.path[:] = argv, stdin, path
        os.chdir(folder)
        shared.set_()
        # setting it, even to the same, slows every function
        if torch.get_default_device() != device:
            torch.set_default_device(device if device.type != "cpu" else None)
        torch.set_grad_enabled(gradients)
