"""What a matrix would cost at other rates: points of its rate–loss curve, for questions of "what if".

Reverse water-filling in the form that `squeeze.calib.waterfill.expected_bits` uses: a weight of
variance σ² in steps s needs ½·log2(1 + σ²/θ) bits and keeps the error σ²·θ/(σ² + θ), θ = (s/2.07)².
At high rates a bit more quarters the loss; at low rates the loss ends at that of zeros.
"""

from __future__ import annotations

import numpy as np

from squeeze.calib.curvature import Factor
from squeeze.calib.floats import Float32
from squeeze.calib.waterfill import CELL, SAMPLED_ROWS, waterfill

Curve = tuple[tuple[float, float], ...]  # (bits a weight, nats per token), bits rising

OCTAVES = (4.0, 3.0, 2.0, 1.0, 0.5, 0.0, -0.5, -1.0, -2.0, -3.0, -4.0)  # of the scale


def curve(
    weights: Float32, factor: Factor, importance: Float32, scale: float, bits: float, loss: float
) -> Curve:
    """Points for the OCTAVES around `scale`, shifted to go through what is known there.

    bits: real bits a weight at `scale`; loss: expected nats per token there. Raises as `waterfill`.
    """
    stride = -(-len(weights) // SAMPLED_ROWS)
    sample = weights[::stride].reshape(-(-len(weights) // stride), -1).astype(np.float64)
    rows, columns = (sample**2).mean(1), (sample**2).mean(0)
    variances = np.outer(rows, columns) / (columns.mean() or 1e-30)
    costs = np.outer(importance[::stride].astype(np.float64), factor.weights)

    def at(octaves: float) -> tuple[float, float]:
        steps = waterfill(weights, factor, importance, scale * 2.0**octaves)
        squares = np.outer(steps.rows[::stride].astype(np.float64) ** 2, np.exp2(steps.columns / 4))
        noise = squares / CELL**2
        rate = 0.5 * np.log2(1 + variances / noise).mean()
        return float(rate), float((costs * variances * noise / (variances + noise)).sum())

    rate_here, loss_here = at(0.0)
    share = loss / loss_here if loss_here > 0 else 0.0
    points = []
    for octaves in OCTAVES:
        rate, cost = at(octaves)
        shifted = bits * rate / rate_here if rate < rate_here else bits + rate - rate_here
        points.append((shifted, cost * share))
    return tuple(points)
