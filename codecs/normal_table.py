"""The normal distribution function as integers, the same on every machine.

Built by integer arithmetic alone, so no two mathematical libraries can disagree on a bit of it.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import numpy.typing as npt

GRID_BITS = 7  # points are 2^-7 standard deviations apart
REACH = 8  # standard deviations; the mass beyond is 6e-16
VALUE_BITS = 32  # values have 32 fractional bits
_WORK_BITS = 128


def exp_minus(denominator: int) -> int:
    """Return exp(-1 / denominator) with _WORK_BITS fractional bits."""
    term = total = 1 << _WORK_BITS
    for k in range(1, 60):
        term = -term // (denominator * k)
        total += term
    return total


@cache
def half_table() -> npt.NDArray[np.int64]:
    """Return Φ(i / 2^GRID_BITS) - ½, VALUE_BITS fractional bits: int64[2^GRID_BITS · REACH + 1].

    The density at i·h is exp(-(i·h)²/2): the ratio of neighbours shrinks by exp(-h²) each step.
    Its integral is the trapezoid sum with the Euler-Maclaurin end correction h²/12·(f'(0) - f'(x)),
    where f'(x) = -x·f(x); what remains is of order h⁴/720, below 2^-37. The total is scaled so that
    Φ(REACH) - ½ = ½.
    """
    squared = 1 << 2 * GRID_BITS  # 1 / h²
    shrink = exp_minus(squared)
    ratio = exp_minus(2 * squared)
    density = 1 << _WORK_BITS
    total, values = 0, [0]
    for i in range(1, (REACH << GRID_BITS) + 1):
        following = density * ratio >> _WORK_BITS
        ratio = ratio * shrink >> _WORK_BITS
        total += density + following  # the sum of trapezoids, in units of h/2
        density = following
        # h²/12 · x·f(x) with x = i·h, in units of h/2, is i·f·h²/6.
        values.append(total + i * density // (6 * squared))
    table = [value * (1 << VALUE_BITS - 1) // values[-1] for value in values]
    return np.array(table, np.int64)


def distribution(x: npt.NDArray[np.int64], fraction_bits: int) -> npt.NDArray[np.int64]:
    """Return Φ(x) with VALUE_BITS fractional bits; x has `fraction_bits` (≥ GRID_BITS) of them.

    Non-decreasing, 0 and 1 at -REACH and REACH, odd around ½; linear between grid points (error
    below 2^-20).
    """
    table = half_table()
    step = fraction_bits - GRID_BITS
    size = np.minimum(np.abs(x), REACH << fraction_bits)
    point = np.minimum(size >> step, table.size - 2)
    part = size - (point << step)
    value = table[point] + ((table[point + 1] - table[point]) * part >> step)
    return (1 << VALUE_BITS - 1) + np.where(x < 0, -value, value)
