"""Weights that already lie on a grid: code · step with one step a row, as quantization-aware training
with a straight-through estimate and a decoded integer export leave them.

Such a grid is found from the values alone and stored as it is: the codes reproduce every weight, so
nothing is lost. `worth_keeping` weighs its bytes against coarser steps elsewhere.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from squeeze.calib.statistics.curvature import Float64
from squeeze.tensors.floats import WORDS, Bits, Float32, from_bits, round_to, to_bits
from squeeze.tensors.quantized import QuantizedTensor

LARGEST_CODE = 127
# Bits of the fraction and the least exponent of normal numbers: the spacing of a format's numbers.
FRACTION = {"fp32": (23, -126), "fp16": (10, -14), "bf16": (7, -126)}
STEP_FORMATS = ("fp16", "bf16", "fp32")  # the first that reproduces every row is taken
NEIGHBOURS = 2  # floats on either side of an interval's middle that are tried as step


def find_grid(weights: Float32, logical: str = "fp32") -> QuantizedTensor | None:
    """Return the tensor as codes −127…127 on one step a row, or None when it is not on such a grid.

    The result dequantizes to every weight exactly (−0 comes back as 0). Steps are the largest that do,
    in the smallest format in which all rows have one. A tensor with NaN or an infinity is on no grid.
    The test of one row ends at its first value off the grid, so a tensor of ordinary floats costs no
    more than sorting its first row.

    weights: float32, rows are the first dimension.
    logical: float format of the checkpoint ("fp32", "fp16", "bf16"), in which products were rounded.
    """
    matrix = weights.reshape(len(weights), -1) if weights.size else weights.reshape(0, 1)
    ranges = []
    for row in matrix:
        step_range = _step_range(row, logical)
        if step_range is None:
            return None
        ranges.append(step_range)
    used = [interval for interval in ranges if interval[1] < math.inf]
    spare = used[0] if used else (1.0, 1.0)  # rows of zeros decode with any step
    ranges = [interval if interval[1] < math.inf else spare for interval in ranges]
    for step_format in STEP_FORMATS:
        tensor = _on_steps(matrix, ranges, weights.shape, step_format, logical)
        if tensor is not None:
            return tensor
    return None


def worth_keeping(
    extra: Mapping[str, float], losses: Mapping[str, float], weights: Mapping[str, int]
) -> list[str]:
    """Return the tensors to keep on their grids, so that the whole model loses least at the same bytes.

    A tensor on its grid loses nothing, and its extra bits come from the others, whose losses grow like
    4^(bits taken per weight). Tensors are kept in the order of loss saved per extra bit, as many as
    have the least expected loss by that formula.

    extra: bits that the codes of each grid take beyond those of the same tensor water-filled; tensors
    without a grid are left out.
    losses: loss of every water-filled tensor, nats per token.
    weights: number of weights of every water-filled tensor.

    >>> worth_keeping({"a": 1e6}, {"a": 0.01, "b": 0.001}, {"a": 1_000_000, "b": 9_000_000})
    ['a']
    """
    order = sorted(extra, key=lambda name: (-losses[name] / max(extra[name], 1.0), name))
    best, best_count = sum(losses.values()), 0
    for count in range(1, len(order) + 1):
        # in one order, for sums of floats depend on it
        others = [name for name in losses if name not in order[:count]]
        taken, room = sum(extra[name] for name in order[:count]), sum(weights[n] for n in others)
        if taken > room:  # a bit of every weight that is left: the formula holds no longer
            continue
        expected = sum(losses[name] for name in others) * 4.0 ** (taken / max(room, 1))
        if expected < best:
            best, best_count = expected, count
    return order[:best_count]


def _step_range(row: Float32, logical: str) -> tuple[float, float] | None:
    """Return the least and the largest step on whose grid a row lies; (0, ∞) for a row of zeros.

    A weight is code · step rounded, so each bounds the step from both sides. The smallest magnitude is
    1, 2, … steps; the first count that suits all others has the largest step.
    """
    if not np.isfinite(row).all():
        return None
    values: Float64 = np.unique(np.abs(row)).astype(np.float64)
    values = values[values > 0]
    if len(values) > LARGEST_CODE:
        return None
    if not len(values):
        return 0.0, math.inf
    lowest, highest = _rounded_to(values, logical)
    for count in range(1, LARGEST_CODE + 1):
        least, largest = lowest[0] / count, highest[0] / count
        for value, low, high in zip(values, lowest, highest, strict=True):
            code = round(2 * value / (least + largest))
            least, largest = max(least, low / code), min(largest, high / code)
            if least > largest or code > LARGEST_CODE:
                break
        else:
            return least, largest
    return None


def _rounded_to(values: Float64, logical: str) -> tuple[Float64, Float64]:
    """Return the least and the largest number that the format rounds to each positive value."""
    fraction, least_exponent = FRACTION[logical]
    mantissas, exponents = np.frexp(values)
    half: Float64 = np.ldexp(np.float64(0.5), np.maximum(exponents - 1, least_exponent) - fraction)
    below = np.where((mantissas == 0.5) & (exponents - 1 > least_exponent), half / 2, half)
    return values - below, values + half


def _on_steps(
    matrix: Float32,
    ranges: list[tuple[float, float]],
    shape: tuple[int, ...],
    step_format: str,
    logical: str,
) -> QuantizedTensor | None:
    """Return the tensor with steps of this format inside their ranges, or None when a row has none."""
    codes, steps = np.empty(matrix.shape, np.int8), np.empty(len(matrix), np.float32)
    for r, (row, (least, largest)) in enumerate(zip(matrix, ranges, strict=True)):
        middle = (least + largest) / 2
        counts = np.rint(row.astype(np.float64) / middle).astype(np.float32)
        for step in _near(middle, step_format):
            if np.array_equal(round_to(counts * step, logical), row):
                codes[r], steps[r] = counts, step
                break
        else:
            return None
    patterns: Bits = to_bits(steps, step_format)
    return QuantizedTensor(codes, patterns, shape, step_format=step_format, logical=logical)


def _near(value: float, number: str) -> Float32:
    """Return the positive finite floats of a format around a value, nearest first."""
    with np.errstate(over="ignore"):
        bits = int(to_bits(np.array([value], np.float32), number)[0])
    offsets = sorted(range(-NEIGHBOURS, NEIGHBOURS + 1), key=abs)
    patterns = [bits + offset for offset in offsets if bits + offset > 0]
    floats = from_bits(np.array(patterns, WORDS[number]), number)
    return floats[np.isfinite(floats)]
