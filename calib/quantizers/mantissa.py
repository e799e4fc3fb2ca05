"""Floats with fewer bits of mantissa: between the finest useful steps and no loss at all.

Above about eleven bits a weight nothing that a quantizer could gain is measurable in the loss, but a
limit is still to be met. A float whose last mantissa bits are zero stays a float: it needs no steps and
no decoder of its own, and a coder of byte planes drops what is always zero.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from squeeze.errors import BadConfig
from squeeze.tensors.floats import Float32

MANTISSA = 23  # bits of a float32's, all of them stored
_PLANE = 7  # of them in the byte that begins with the exponent's last bit


def round_mantissas(weights: Float32, bits: float) -> Float32:
    """Round weights to nearest with `bits` bits of mantissa on average, 0…23; same shape.

    The first weights, in C order, keep a bit more than the others, as many as make up the fraction:
    so the coded size grows with `bits` without jumps. With 23 the weights come back unchanged.

    Raises BadConfig for bits out of range.
    """
    if not 0 <= bits <= MANTISSA:
        raise BadConfig("mantissa bits", expected=f"0…{MANTISSA}", found=bits)
    flat = np.ascontiguousarray(weights, np.float32).reshape(-1)
    whole = int(bits)
    more = round((bits - whole) * flat.size)
    parts = (_rounded(flat[:more], whole + 1), _rounded(flat[more:], whole))
    return np.concatenate(parts).reshape(weights.shape)


def _rounded(flat: Float32, bits: int) -> Float32:
    """Return weights [n] rounded to so many bits of mantissa."""
    if bits >= MANTISSA:
        return flat
    dropped = np.uint32(MANTISSA - bits)
    words = flat.view(np.uint32)
    nearest = (words + (np.uint32(1) << (dropped - np.uint32(1)))) >> dropped << dropped
    # the carry may only run into the exponent while the number stays finite
    overflow = ~np.isfinite(nearest.view(np.float32))
    rounded: Float32 = np.where(overflow, words >> dropped << dropped, nearest).view(np.float32)
    return rounded


def head_bits(weights: Float32) -> float:
    """Return the bits a weight that a coder of byte planes needs besides those of the mantissa.

    They are the entropies of the two highest bytes, each on its own, less the seven mantissa bits in
    them. 0 for no weights.
    """
    if not weights.size:
        return 0.0
    words = np.ascontiguousarray(weights, np.float32).reshape(-1).view(np.uint32)
    return _entropy(words >> np.uint32(24)) + _entropy(words >> np.uint32(16) & 255) - _PLANE


def _entropy(symbols: npt.NDArray[Any]) -> float:
    """Return the order-0 entropy of bytes [n], bits a symbol."""
    counts = np.bincount(symbols, minlength=256)
    shares = counts[counts > 0] / symbols.size
    return float(-(shares * np.log2(shares)).sum())
