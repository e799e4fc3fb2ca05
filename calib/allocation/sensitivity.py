"""Cost of a matrix at other rates: points of its rate–loss curve, for questions of "what if".

A weight of variance σ² in steps s, θ = (s/2.07)², needs ½·log2(1 + σ²/θ) bits, as
`squeeze.calib.allocation.waterfill.expected_bits` has it. The error it keeps depends on s/σ alone:
measured on Gaussian weights (GAUSSIAN). At high rates a bit more quarters it; at low rates it ends
at that of zeros. Contexts and feedback move both by little, which is measured on real quantizations.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from squeeze.calib.allocation.octaves import OCTAVES
from squeeze.calib.allocation.waterfill import CELL, SAMPLED_ROWS, waterfill
from squeeze.calib.statistics.curvature import Factor
from squeeze.tensors.floats import Float32

Curve = tuple[tuple[float, float], ...]  # (bits a weight, nats per token), bits rising

# Octaves of s/σ, and mean squared error / σ² of the trellis of 8 states with the price of bits that
# packing uses: 768 × 768 Gaussian weights (docs/log.md). θ/(σ² + θ) would be half of it near one bit.
GAUSSIAN = np.array([
    (-4.0, 0.001016), (-3.5, 0.002031), (-3.0, 0.004067), (-2.5, 0.008142), (-2.0, 0.016314),
    (-1.5, 0.032688), (-1.0, 0.065754), (-0.5, 0.132681), (0.0, 0.268553), (0.5, 0.545082),
    (1.0, 0.989330), (1.5, 1.0),
])  # fmt: skip


def curve(
    weights: Float32,
    factor: Factor,
    importance: Float32,
    scale: float,
    measured: Mapping[float, tuple[float, float]],
) -> Curve:
    """Return points for the OCTAVES around `scale`, through the measured ones.

    weights, factor, importance: as in `waterfill`, whose errors are raised
    scale: of the model
    measured: real bits a weight and expected nats per token, by octaves above `scale`, one or several;
        between two of them their differences from the formula's bits, and ratios to its loss, are
        interpolated
    """
    stride = -(-len(weights) // SAMPLED_ROWS)
    sample = weights[::stride].reshape(-(-len(weights) // stride), -1).astype(np.float64)
    rows, columns = (sample**2).mean(1), (sample**2).mean(0)
    variances = np.maximum(np.outer(rows, columns) / (columns.mean() or 1.0), 1e-30)
    costs = np.outer(importance[::stride].astype(np.float64), factor.weights) * variances

    def formula(octaves: float) -> tuple[float, float]:
        steps = waterfill(weights, factor, importance, scale * 2.0**octaves)
        squares = np.outer(steps.rows[::stride].astype(np.float64) ** 2, np.exp2(steps.columns / 4))
        rates = 0.5 * np.log2(1 + CELL**2 * variances / squares)
        errors = gaussian(0.5 * np.log2(squares / variances))
        return float(rates.mean()), float((costs * errors).sum()) or 1e-30

    knots = sorted(measured)
    expected = [formula(octaves) for octaves in knots]
    excess = [measured[o][0] - rate for o, (rate, _) in zip(knots, expected, strict=True)]
    ratios = [measured[o][1] / loss for o, (_, loss) in zip(knots, expected, strict=True)]
    points: list[tuple[float, float]] = []
    for octaves in OCTAVES:
        rate, loss = formula(octaves)
        bits = rate + float(np.interp(octaves, knots, excess))
        bits = max(bits, points[-1][0] if points else 0.0)
        points.append((bits, loss * float(np.interp(octaves, knots, ratios))))
    return tuple(points)


def gaussian(octaves: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return error / σ² of Gaussian weights whose step is 2^octaves times their σ; any shape.

    Beyond the finest step measured an octave quarters it.
    """
    measured, errors = GAUSSIAN.T
    finer = np.maximum(measured[0] - octaves, 0.0)
    return np.exp2(np.interp(octaves, measured, np.log2(errors)) - 2 * finer)
