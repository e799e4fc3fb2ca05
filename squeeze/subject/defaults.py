"""Torch as it starts: what callers set for work of their own changes no pack and no score."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple

import torch

from squeeze.subject.joined import Joined

BACKENDS: Any = torch.backends  # its modules' attributes are made when torch loads


@contextmanager
def torch_by_default() -> Iterator[None]:
    """Compute inside with torch's own settings, and leave those of the caller as they were.

    Autocast, inference mode and the default device are of a thread; the rest (`Shared`) is of all.
    """
    with _SHARED(), ExitStack() as stack:
        stack.enter_context(torch.inference_mode(False))
        for kind in ("cpu", "cuda"):
            if torch.is_autocast_enabled(kind):
                stack.enter_context(torch.autocast(kind, enabled=False))
        # setting it, even to the same, slows every function
        if torch.get_default_device().type != "cpu":
            stack.enter_context(torch.device("cpu"))
        yield


class Shared(NamedTuple):
    """Settings of torch that all threads share; the defaults are torch's.

    dtype: of new tensors
    products: precision of float32 products; None where backends have their own, which torch then refuses
        to sum up in a word
    cuda, cpu: the same for each backend
    """

    dtype: torch.dtype = torch.float32
    products: str | None = "highest"
    cuda: str = "none"
    cpu: str = "none"

    @classmethod
    def current(cls) -> Shared:
        """Return the settings that hold now."""
        try:
            products = torch.get_float32_matmul_precision()
        except RuntimeError:
            products = None
        cuda, cpu = BACKENDS.cuda.matmul.fp32_precision, BACKENDS.mkldnn.matmul.fp32_precision
        return cls(torch.get_default_dtype(), products, cuda, cpu)

    def set_(self) -> None:
        """Make these the settings of torch; those that hold already are not touched."""
        if Shared.current() == self:
            return
        torch.set_default_dtype(self.dtype)
        torch.set_float32_matmul_precision(self.products or "highest")
        BACKENDS.cuda.matmul.fp32_precision = self.cuda
        BACKENDS.mkldnn.matmul.fp32_precision = self.cpu


@contextmanager
def _shared_by_default() -> Iterator[None]:
    callers = Shared.current()
    Shared().set_()
    try:
        yield
    finally:
        callers.set_()


_SHARED = Joined(_shared_by_default)
