"""Marks of the tensors of a forward: which hold weights, and which depend on the tokens."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from squeeze.calib.taps.weights import Weight

MARK = "_squeeze_mark"  # attribute of a tensor: a Weight or an Activation


@dataclass(frozen=True)
class Activation:
    """Mark of a tensor that depends on the tokens.

    sources: the last products or lookups that it came through, by their place in the forward
    """

    sources: frozenset[str] = frozenset()


TOKENS = Activation(frozenset({"tokens"}))


def is_activation(tensor: Tensor) -> bool:
    """Return whether a tensor depends on the tokens."""
    return isinstance(getattr(tensor, MARK, None), Activation)


def marked_(tensor: Tensor, mark: Weight | Activation) -> Tensor:
    """Mark a tensor and return it."""
    setattr(tensor, MARK, mark)
    return tensor
