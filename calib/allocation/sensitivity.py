"""What a matrix would cost at other rates: points of its rate–loss curve, for questions of "what if".

A weight of variance σ² in steps s, θ = (s/2.07)², needs ½·log2(1 + σ²/θ) bits, as
`squeeze.calib.allocation.waterfill.expected_bits` has it. The error it keeps depends on s/σ alone:
measured on Gaussian weights (GAUSSIAN). At high rates a bit more quarters it; at low rates it ends
at that of zeros. Contexts and feedback move both by little, which is taken from the quantizations
that are known.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from squeeze.calib.allocation.waterfill import CELL, SAMPLED_ROWS, waterfill
from squeeze.calib.statistics.curvature import Factor
from squeeze.tensors.floats import Float32

Curve = tuple[tuple[float, float], ...]  # (bits a weight, nats per token), bits rising

OCTAVES = (4.0, 3.0, 2.0, 1.0, 0.5, 0.0, -0.5, -1.0, -2.0, -3.0, -4.0)  # of the scale

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
    known: Mapping[float, tuple[float, float]],
) -> Curve:
    """Points for the OCTAVES around `scale`, through what is known.

    known: (real bits a weight, expected nats per token) by octaves above `scale`, one or several;
    between two of them what they add to the model's bits and factor into its loss is interpolated.
    Raises as `waterfill`.
    """
    stride = -(-len(weights) // SAMPLED_ROWS)
    sample = weights[::stride].reshape(-(-len(weights) // stride), -1).astype(np.float64)
    rows, columns = (sample**2).mean(1), (sample**2).mean(0)
    variances = np.maximum(np.outer(rows, columns) / (columns.mean() or 1.0), 1e-30)
    costs = np.outer(importance[::stride].astype(np.float64), factor.weights) * variances

    def at(octaves: float) -> tuple[float, float]:
        steps = waterfill(weights, factor, importance, scale * 2.0**octaves)
        squares = np.outer(steps.rows[::stride].astype(np.float64) ** 2, np.exp2(steps.columns / 4))
        rates = 0.5 * np.log2(1 + CELL**2 * variances / squares)
        errors = gaussian(0.5 * np.log2(squares / variances))
        return float(rates.mean()), float((costs * errors).sum()) or 1e-30

    places = sorted(known)
    models = [at(octaves) for octaves in places]
    more = [known[place][0] - rate for place, (rate, _) in zip(places, models, strict=True)]
    times = [known[place][1] / loss for place, (_, loss) in zip(places, models, strict=True)]
    points: list[tuple[float, float]] = []
    for octaves in OCTAVES:
        rate, loss = at(octaves)
        bits = max(rate + float(np.interp(octaves, places, more)), points[-1][0] if points else 0.0)
        points.append((bits, loss * float(np.interp(octaves, places, times))))
    return tuple(points)


def gaussian(octaves: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Error / σ² of weights whose step is 2^octaves times their σ; any shape.

    Beyond the finest step measured an octave quarters it.
    """
    known, errors = GAUSSIAN.T
    finer = np.maximum(known[0] - octaves, 0.0)
    return np.exp2(np.interp(octaves, known, np.log2(errors)) - 2 * finer)
