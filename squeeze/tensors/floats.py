"""Float formats as bit patterns: numpy has no bfloat16, and lossless storage wants integers.

Every function is exact or rounds to nearest even, as IEEE 754 and torch do.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Bits = npt.NDArray[np.unsignedinteger[Any]]
Float32 = npt.NDArray[np.float32]

WORDS: dict[str, np.dtype[Any]] = {
    "fp32": np.dtype(np.uint32),
    "fp16": np.dtype(np.uint16),
    "bf16": np.dtype(np.uint16),
}


def to_bits(values: Float32, number: str) -> Bits:
    """Round float32 values to the format `number` ("fp32", "fp16", "bf16") and return the patterns.

    Same shape; dtype uint32 or uint16. Values too large for fp16 become infinities, as in numpy.
    """
    values = np.asarray(values, dtype=np.float32, order="C")
    if number == "fp32":
        return values.view(np.uint32)
    if number == "fp16":
        with np.errstate(over="ignore"):
            return values.astype(np.float16).view(np.uint16)
    if number == "bf16":
        word = values.view(np.uint32)
        rounded = word + (np.uint32(0x7FFF) + ((word >> np.uint32(16)) & np.uint32(1)))
        # adding the rounding constant would turn a NaN's payload into an infinity
        quiet = (word >> np.uint32(16)) | np.uint32(0x40)
        return np.where(np.isnan(values), quiet, rounded >> np.uint32(16)).astype(np.uint16)
    raise ValueError(f"unknown float format {number!r}")


def from_bits(bits: Bits, number: str) -> Float32:
    """Return the exact float32 values of bit patterns; the inverse of `to_bits`.

    >>> from_bits(to_bits(np.float32([1.00390625, -2]), "bf16"), "bf16").tolist()
    [1.0, -2.0]
    """
    bits = np.asarray(bits, dtype=WORDS[number], order="C")
    if number == "fp32":
        return bits.view(np.float32)
    if number == "fp16":
        return bits.view(np.float16).astype(np.float32)
    return (bits.astype(np.uint32) << np.uint32(16)).view(np.float32)


def round_to(values: Float32, number: str) -> Float32:
    """Return float32 values rounded to a format."""
    return values if number == "fp32" else from_bits(to_bits(values, number), number)
