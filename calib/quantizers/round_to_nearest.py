"""Per-row symmetric round-to-nearest, the field's first quantizer (baseline: int8, #374…: int6).

A row's step is clip/q_max, where clip is k standard deviations of the row (record entries: k 11.5–13
for int6 matrices, 14–20 for embeddings) or the row's largest magnitude.
"""

from __future__ import annotations

import numpy as np

from squeeze.errors import BadConfig
from squeeze.tensors.floats import Float32, from_bits, to_bits
from squeeze.tensors.quantized import QuantizedTensor

MIN_BITS, MAX_BITS = 2, 16


def check_bits(bits: int) -> None:
    """Raise BadConfig unless codes can have so many bits."""
    if not MIN_BITS <= bits <= MAX_BITS:
        raise BadConfig("bad number of bits", expected=f"{MIN_BITS}…{MAX_BITS}", found=bits)


def row_steps(matrix: Float32, bits: int, k: float | None) -> Float32:
    """Return the step of each row, float32[R] > 0: k·σ/(2^(bits−1)−1), or max|w|/(…) for a k of None.

    σ is the root mean square of the row (weights have mean ~0), summed in float64. A row of zeros
    gets the largest step of the matrix, or 1: any step decodes it exactly.
    """
    q_max = (1 << (bits - 1)) - 1
    wide = matrix.astype(np.float64)
    clip = np.abs(wide).max(axis=1, initial=0) if k is None else k * np.sqrt((wide**2).mean(axis=1))
    steps = clip / q_max
    steps[steps == 0] = steps.max(initial=0) or 1.0
    return steps.astype(np.float32)


def quantize_rtn(
    weights: Float32,
    bits: int,
    k: float | None = None,
    *,
    step_format: str = "fp16",
    logical: str = "fp32",
) -> QuantizedTensor:
    """Quantize a tensor to `bits`-bit codes in [−q_max, q_max], q_max = 2^(bits−1)−1.

    The steps are rounded to their stored format *before* the codes are chosen, so codes are nearest
    for the steps that ship.

    weights: float32, at least 1-D; rows are its first dimension.
    k: clip in standard deviations of a row, or None for its largest magnitude.
    step_format: float format of the stored steps.
    logical: float format of the weights that the codes stand for.

    Raises BadConfig for bits outside 2…16 or k ≤ 0.
    """
    check_bits(bits)
    if k is not None and not (np.isfinite(k) and k > 0):
        raise BadConfig("bad clip", expected="k > 0 standard deviations", found=k)
    matrix = weights.reshape(weights.shape[0], -1)
    q_max = (1 << (bits - 1)) - 1
    patterns = to_bits(_representable(row_steps(matrix, bits, k), step_format), step_format)
    steps = from_bits(patterns, step_format)
    codes = np.clip(np.rint(matrix / steps[:, None]), -q_max, q_max)
    return QuantizedTensor(
        codes=codes.astype(np.int8 if bits <= 8 else np.int16),
        steps=patterns,
        shape=weights.shape,
        step_format=step_format,
        logical=logical,
    )


def _representable(steps: Float32, step_format: str) -> Float32:
    """Return steps that fit their format: a step of 0 or ∞ would lose the row."""
    if step_format != "fp16":
        return np.maximum(steps, np.float32(1e-30))
    return np.clip(steps, np.float32(2**-24), np.float32(65504.0))
