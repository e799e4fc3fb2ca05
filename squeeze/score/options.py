"""Options of the scoring modes that do not learn. No torch here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class WindowOptions:
    """Windows of `length` tokens that do not overlap."""

    length: int

    @classmethod
    def from_settings(cls, length: int, stride: int, settings: Mapping[str, str]) -> WindowOptions:
        """Return the options for a window length; the rest belongs to other modes."""
        return cls(length)

    @property
    def stride(self) -> int:
        """Tokens by which the windows move."""
        return self.length


@dataclass(frozen=True)
class SlidingOptions:
    """Windows of `length` tokens that move by `stride`."""

    length: int
    stride: int

    @classmethod
    def from_settings(cls, length: int, stride: int, settings: Mapping[str, str]) -> SlidingOptions:
        """Return the options for a window length and a stride; no setting belongs to them."""
        return cls(length, stride)
