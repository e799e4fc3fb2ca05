"""Forwards without a compiler, so that taps see every function of a model that `torch.compile` wraps."""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Iterator

import torch

COMPILER = "torch._dynamo"  # imported by the first call of torch.compile: 4 seconds
_LOCK = threading.Lock()
_STANCES: list[contextlib.AbstractContextManager[None]] = []  # one for each thread inside


@contextlib.contextmanager
def eager(load: bool = False) -> Iterator[None]:
    """Run compiled functions as they are written, and leave the compiler as it was.

    load: import the compiler where nobody has, because code that runs inside may

    The stance is one for all threads: the first that enters sets it, the last that leaves restores it.
    """
    if not load and COMPILER not in sys.modules:
        yield
        return
    with _LOCK:
        if not _STANCES:
            _STANCES.append(torch.compiler.set_stance("force_eager"))
        _STANCES.append(contextlib.nullcontext())
    try:
        yield
    finally:
        with _LOCK:
            _STANCES.pop()
            if len(_STANCES) == 1:
                _STANCES.pop().__exit__(None, None, None)
