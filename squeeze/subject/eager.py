"""Forwards without a compiler, so that taps see every function of a model that `torch.compile` wraps."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator

import torch

from squeeze.subject.joined import Joined

COMPILER = "torch._dynamo"  # imported by the first call of torch.compile: 4 seconds
_AS_WRITTEN = Joined(lambda: torch.compiler.set_stance("force_eager"))


@contextlib.contextmanager
def eager(load: bool = False) -> Iterator[None]:
    """Run compiled functions as they are written, and leave the compiler as it was.

    load: import the compiler where nobody has, because code that runs inside may
    """
    with _AS_WRITTEN() if load or COMPILER in sys.modules else contextlib.nullcontext():
        yield
