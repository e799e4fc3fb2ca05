"""The codec interface: integer arrays to bytes and back.

A codec is a symmetric pair. All that it needs to decode besides shape and dtype travels in its own
payload. `encode` and `decode` here validate; `_encode` and `_decode`, adjacent and mirrored in each
codec, compute.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import Any

import numpy as np
import numpy.typing as npt

from squeeze.errors import CorruptData, SqueezeError

Symbols = npt.NDArray[Any]

DTYPES = tuple(np.dtype(t) for t in ("int8", "int16", "int32", "uint8", "uint16", "uint32"))
_DTYPE_NAMES = ", ".join(t.name for t in DTYPES)


class Codec(ABC):
    """A named, numbered pair of inverse functions. Bytes are deterministic and part of the format.

    name: for people and command lines.
    wire_id: the byte written in files, which never changes its meaning.
    """

    name: str
    wire_id: int

    def accepts(self, symbols: Symbols) -> bool:
        """Return whether this codec has a meaningful encoding of a (valid) array; most take any."""
        return True

    def encode(self, symbols: Symbols) -> bytes:
        """Encode a 1-D or 2-D array of int8/16/32 or uint8/16/32, in C order.

        An empty array is always zero bytes. Raises SqueezeError for other arrays, and for arrays
        that this codec does not accept.
        """
        if symbols.dtype not in DTYPES or symbols.ndim not in (1, 2):
            raise SqueezeError(
                f"{self.name}: cannot encode this array",
                expected=f"1-D or 2-D of {_DTYPE_NAMES}",
                found=f"{symbols.ndim}-D of {symbols.dtype}",
            )
        if symbols.size == 0:
            return b""
        symbols = np.ascontiguousarray(symbols)
        if not self.accepts(symbols):
            raise SqueezeError(
                f"{self.name}: cannot encode {symbols.dtype} of shape {symbols.shape}",
                fix="Choose another codec, or let encode_smallest choose.",
            )
        return self._encode(symbols)

    def decode(self, data: bytes, shape: tuple[int, ...], dtype: npt.DTypeLike) -> Symbols:
        """Decode to a new C-contiguous array. Memory is bounded by `shape` and `len(data)`.

        Raises CorruptData when `data` is not an encoding of such an array: truncated, with bytes
        left over, or holding values that do not fit `dtype`.
        """
        target = np.dtype(dtype)
        if target not in DTYPES or len(shape) not in (1, 2) or min(shape) < 0:
            raise SqueezeError(
                f"{self.name}: cannot decode to this array",
                expected=f"1-D or 2-D of {_DTYPE_NAMES}",
                found=f"{target} of shape {shape}",
            )
        if math.prod(shape) == 0:
            if data:
                raise CorruptData(f"{self.name}: bytes for an empty array", found=len(data))
            return np.zeros(shape, target)
        return self._decode(data, shape, target)

    @abstractmethod
    def _encode(self, symbols: Symbols) -> bytes:
        """Encode a valid, accepted, C-contiguous array of at least one element."""

    @abstractmethod
    def _decode(self, data: bytes, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Symbols:
        """Decode to at least one element, or raise CorruptData."""


def to_dtype(values: Symbols, dtype: np.dtype[Any], name: str, offset: int = 0) -> Symbols:
    """Return `values` + `offset` as `dtype`, without a wider array in between.

    Raises CorruptData, naming the codec, when a sum does not fit.
    """
    limits = np.iinfo(dtype)
    low, high = int(values.min()) + offset, int(values.max()) + offset
    if low < limits.min or high > limits.max:
        raise CorruptData(f"{name}: decoded values do not fit {dtype}", found=f"{low}..{high}")
    narrow = values.astype(dtype)
    if offset:
        narrow += np.array(offset, np.int64).astype(dtype)  # wraps; the sum does not
    return narrow
