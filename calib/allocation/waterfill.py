"""Steps by water-filling: every weight's error costs the same loss.

The loss that quantization adds is, to second order and with Kronecker-factored curvature,
½·Σ g_r·(ΔW H ΔWᵀ)_rr nats per token, with g_r the mean squared gradient at output r
(`squeeze.calib.statistics.fisher`) and H the inputs' second moments. After the feedback of GPTQ an
error e in row r and column j costs ½·g_r·d_j·e², d_j = 1/U_jj²
(`squeeze.calib.statistics.curvature`). Least loss for given bits has the same expected cost
everywhere (reverse water-filling; WaterSIC, arXiv 2603.04956, is the case g = 1 of one matrix), so
step² ∝ 1/(g_r·d_j), with one factor for the whole model: its `scale`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from squeeze.calib.parallel import product
from squeeze.calib.statistics.curvature import Factor, row_losses
from squeeze.errors import BadConfig, BadData
from squeeze.tensors.floats import Float32

STEP_FORMAT = "bf16"  # the range of float32; eighths of an octave need three bits of mantissa
FLOOR = 0.05  # of the mean importance, added to every row's: outputs that never mattered might yet
LARGEST_STEP = 4.0  # times the largest weight: every code is 0 long before
LARGEST_EXPONENT = 127
# Columns up to which steps of rows are best in whole and in half octaves: rounding to an n-th of one
# costs each weight 0.0128/n² bit and the step log2(n) bits, least at n² = columns/56. Wider rows would
# gain less than 0.004 bits a weight.
WHOLE, HALF = 112, 256
SAMPLED_ROWS = 64
# σ in cells of two trellis steps at which a Gaussian has ½·log2(σ²) bits more than none.
CELL = 2.07


@dataclass(frozen=True)
class Steps:
    """Steps of a matrix, all powers of two in eighths of an octave.

    rows: float32[R], the step of each row.
    columns: int8[C], exponents of the factor of each column.
    """

    rows: Float32
    columns: npt.NDArray[np.int8]


def waterfill(weights: Float32, factor: Factor, importance: Float32, scale: float) -> Steps:
    """Return the steps of a tensor for the scale of its model.

    Rows and columns are rounded to eighths of an octave, which costs 0.0002 bit at a given loss and
    makes them cheap to store.

    weights: float32, rows are the first dimension.
    factor: of the Hessian of the inputs.
    importance: float32[R] ≥ 0, mean squared gradient at each output.
    scale: square root of the loss that a step may cost, √(nats/token).

    Raises BadConfig for a scale that is not positive; BadData for importance of another shape, NaN
    or negative.
    """
    if not (np.isfinite(scale) and scale > 0):
        raise BadConfig("scale", expected="finite and above 0", found=scale)
    if importance.shape != weights.shape[:1]:
        raise BadData(
            "gradients do not match this matrix", expected=weights.shape[:1], found=importance.shape
        )
    if not (np.isfinite(importance).all() and (importance >= 0).all()):
        raise BadData("output gradients", expected="finite and ≥ 0", found="NaN, ∞ or negative")
    rows, columns = importance.astype(np.float64), np.log2(factor.weights) * -0.5
    rows += FLOOR * rows.mean() if len(rows) else 0.0
    center = float(columns.mean()) if len(columns) else 0.0
    exponents = np.clip(np.rint(8 * (columns - center)), -LARGEST_EXPONENT, LARGEST_EXPONENT)
    largest = float(np.abs(weights).max(initial=0.0)) or 1.0
    with np.errstate(divide="ignore"):
        octaves = np.log2(scale) + center - 0.5 * np.log2(rows)
    octaves = np.minimum(octaves, np.log2(LARGEST_STEP * largest))
    snapped = np.exp2(np.rint(8 * octaves) / 8)
    return Steps(snapped.astype(np.float32), exponents.astype(np.int8))


def waterfill_cheaply(weights: Float32, factor: Factor, importance: Float32, scale: float) -> Steps:
    """Return the same as `waterfill`, with steps of rows that cost few bytes beside their codes.

    Steps of short rows are rounded to halves of an octave or to whole ones: a table may have more bytes
    of steps than of codes. Rows are rounded against each other and not against the scale, so that those
    which equal importance has given one step do not jump by an octave when the scale moves a little.
    """
    filled = waterfill(weights, factor, importance, scale)
    width = len(filled.columns)
    if width > HALF or not weights.size:
        return filled
    parts = 1 if width <= WHOLE else 2
    rows = importance + FLOOR * importance.mean(dtype=np.float64)
    with np.errstate(divide="ignore"):
        relative = np.rint(parts * -0.5 * np.log2(rows)) / parts
    largest = LARGEST_STEP * (float(np.abs(weights).max(initial=0.0)) or 1.0)
    center = -0.5 * np.log2(factor.weights).mean()
    steps = np.minimum(np.exp2(np.log2(scale) + center + relative), largest)
    return Steps(steps.astype(np.float32), filled.columns)


def expected_loss(delta: Float32, hessian: Float32, importance: Float32) -> float:
    """Return the nats per token that an error adds: ½·tr(G ΔW H ΔWᵀ).

    delta: error ΔW, float32[R, C].
    hessian: H, float32[C, C], undamped.
    importance: G, float32[R, R], or its diagonal, float32[R].
    """
    if importance.ndim == 1:
        return 0.5 * float((row_losses(delta, hessian) * importance).sum())
    products = product(product(delta, hessian), delta.T)
    return 0.5 * float(np.einsum("rs,rs->", products, importance, dtype=np.float64))


def expected_bits(weights: Float32, steps: Steps) -> float:
    """Return roughly the bits of a tensor's trellis indices at these steps, as a start of a search.

    ½·log2(1 + (CELL·σ/step)²) per weight, σ from the row's and the column's root mean square: the
    entropy of a Gaussian in cells of two steps where σ is large, and towards 0 where it is small.
    Rows are sampled, SAMPLED_ROWS of them at most.
    """
    if not weights.size:
        return 0.0
    stride = -(-len(weights) // SAMPLED_ROWS)
    squares = weights[::stride].reshape(-(-len(weights) // stride), -1).astype(np.float64) ** 2
    rows = squares.mean(1) / steps.rows[::stride].astype(np.float64) ** 2
    columns = squares.mean(0) / np.exp2(steps.columns / 4.0) / (float(squares.mean()) or 1e-30)
    bits = 0.5 * np.log2(1 + CELL**2 * np.outer(rows, columns))
    return float(bits.mean()) * weights.size
