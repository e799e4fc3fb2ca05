"""Receivers of the uses of weights in a forward, and what they are shown besides products."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol, Self

from torch import Tensor

from squeeze.calib.taps.products import Product
from squeeze.calib.taps.weights import Weight
from squeeze.tensors.matrices import Slice


@dataclass(frozen=True)
class Lookup:
    """Rows of a table, looked up by number. slice: the table [rows, width]; ids: int64, any shape."""

    slice: Slice
    ids: Tensor


class Observer(Protocol):
    """Receiver of the uses of weights, in the order of the forward.

    `on_product` and `on_lookup` return the result that the forward goes on with.
    """

    def on_product(self, product: Product, output: Tensor, source: str) -> Tensor:
        """Take a product. source: the name under which activations refer to it."""

    def on_lookup(self, lookup: Lookup, output: Tensor, source: str) -> Tensor:
        """Take a lookup."""

    def on_other(self, weight: Weight, function: str) -> None:
        """Take a use that is neither product nor lookup."""

    def on_activation(self, function: str, sources: list[frozenset[str]], result: str) -> None:
        """Take a function of activations that tells what they are for."""


class Tap(Protocol):
    """Mode under which a forward shows its uses of weights."""

    def begin(self, ids: Tensor) -> Tensor:
        """Return tokens with which a forward begins."""

    def __enter__(self) -> Self:
        """Begin."""

    def __exit__(self, kind: Any, error: Any, trace: Any, /) -> None:
        """End."""
