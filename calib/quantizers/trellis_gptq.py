"""Trellis GPTQ: a trellis down the rows of each column, Hessian feedback across the columns.

A column's weights are searched as one trellis path of least error + λ·bits, then the later columns
make up for its errors as in GPTQ. This feedback needs no state per surviving path, because it enters
between columns, never within one; that between the rows does (`squeeze.calib.quantizers.survivors`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from squeeze.calib.quantizers.gptq import blocks, feed_forward_, in_order, in_tensor_order, prepare
from squeeze.calib.quantizers.row_feedback import RowFeedback
from squeeze.calib.quantizers.survivors import nearby, search_block_
from squeeze.calib.statistics.curvature import Factor, Float64
from squeeze.codecs.jit import njit
from squeeze.codecs.trellis.kernels import search
from squeeze.codecs.trellis.rates import bits_of, counted, first_guess, scale_classes
from squeeze.codecs.trellis.tables import check_states, sources
from squeeze.errors import BadConfig, BadData
from squeeze.tensors.floats import Float32
from squeeze.tensors.quantized import QuantizedTensor

LAMBDA = 0.15  # squared steps per bit; see docs/log.md
SCOUT_STATES = 8  # the pass that only counts what indices cost
LARGEST_MULTIPLE = 40_000  # of a step; feedback may add half as much, and codes are int16 of n >> 1
HEADROOM = 1.5
MARGIN = 64


@dataclass(frozen=True)
class TrellisGptq:
    """What the search chose. bits: estimated size of the codes, from their own statistics."""

    tensor: QuantizedTensor
    bits: float


def trellis_gptq(
    weights: Float32,
    factor: Factor,
    steps: Float32,
    columns: npt.NDArray[np.int8] | None = None,
    *,
    rows: RowFeedback | None = None,
    n_states: int = 8,
    lam: float = LAMBDA,
    step_format: str = "fp16",
    logical: str = "fp32",
) -> TrellisGptq:
    """Quantize a tensor to trellis indices.

    weights: float32, rows are the first dimension. factor: of the Hessian of the inputs. steps:
    float32[R] > 0, rounded to `step_format` before anything is chosen. columns: step exponents in
    eighths of an octave. rows: how later rows make up for earlier ones; None: not at all. lam:
    squared steps per bit; right when steps² ∝ 1 / sensitivity, as
    `squeeze.calib.allocation.waterfill` makes them. Weights of dead columns count as 0.

    Raises BadConfig for an unknown trellis or a negative lam; BadData for shapes that disagree,
    steps that are not positive once rounded, weights that are not finite or more than
    LARGEST_MULTIPLE steps large.
    """
    check_states(n_states)
    if not (np.isfinite(lam) and lam >= 0):
        raise BadConfig("trellis: lam out of range", expected="finite and ≥ 0", found=lam)
    matrix, patterns, scales = prepare(weights, factor, steps, columns, step_format)
    if rows is None:
        rows = RowFeedback(np.ones(len(matrix), np.float32))
    if rows.importance.shape != scales.shape:
        raise BadData(
            "row feedback of another matrix", expected=scales.shape, found=rows.importance.shape
        )
    working, factors = in_order(matrix, factor, columns)
    magnitudes = np.abs(working) / (scales[None, :].astype(np.float64) * factors[:, None])
    largest = float(magnitudes.max(initial=0.0))
    if largest > LARGEST_MULTIPLE:
        raise BadData(
            "trellis: weights too large for their step",
            expected=f"at most {LARGEST_MULTIPLE} steps",
            found=f"{largest:.6g}",
            fix="Store this tensor without loss.",
        )
    multiples = np.zeros(working.shape, np.int32)
    bits = 0.0
    if working.size:
        classes = scale_classes(magnitudes)
        guess = first_guess(magnitudes, classes, int(HEADROOM * largest) + MARGIN)
        price = bits_of(guess)
        for states in (min(SCOUT_STATES, n_states), n_states):
            prices = lam * price
            _sweep_(
                working.copy(), factor, rows, scales, factors, states, prices, classes, multiples
            )
            price = bits_of(counted(multiples, classes, guess))
        bits = float(price[classes, np.abs(multiples)].sum())
    indices = in_tensor_order(multiples >> 1, factor, np.int16)
    small = np.int8 if indices.size == 0 or np.abs(indices).max() < 128 else np.int16
    tensor = QuantizedTensor(
        codes=indices.astype(small),
        steps=patterns,
        shape=weights.shape,
        quantizer="trellis",
        step_format=step_format,
        logical=logical,
        states=n_states,
        columns=columns,
    )
    return TrellisGptq(tensor, bits)


def _sweep_(
    working: Float64,
    factor: Factor,
    rows: RowFeedback,
    scales: Float32,
    factors: Float32,
    n_states: int,
    price: Float64,
    classes: npt.NDArray[np.uint8],
    multiples: npt.NDArray[np.int32],
) -> None:
    """One pass over all weights; fills `multiples` int32[C, R] and uses `working` up."""
    before, n_rows = sources(n_states), working.shape[1]
    shares = rows.shares
    near = None if shares is None else nearby(shares)
    costs, came_by = np.empty((2, n_states)), np.empty((n_rows, n_states), np.uint8)
    for first, last in blocks(len(working)):
        here = slice(first, last)
        upper, errors = factor.upper[here, here], np.empty((last - first, n_rows))
        if shares is None or near is None:
            _search_block_(
                working[here], upper, scales, factors[here], price, classes[here], before, costs,
                came_by, multiples[here], errors,
            )  # fmt: skip
        else:
            search_block_(
                working[here], upper, scales, factors[here], price, classes[here], before,
                shares, near, multiples[here], errors,
            )  # fmt: skip
        working[last:] -= factor.upper[here, last:].T @ errors


@njit(nogil=True)
def _search_block_(
    working: Float64, upper: Float64, scales: Float32, factors: Float32, price: Float64,
    classes: npt.NDArray[np.uint8], sources: npt.NDArray[np.uint8], costs: Float64,
    came_by: npt.NDArray[np.uint8], multiples: npt.NDArray[np.int32], errors: Float64,
) -> None:  # fmt: skip
    """As `survivors.search_block_`, with rows that do not make up for each other."""
    n_rows = working.shape[1]
    ones = np.ones((1, n_rows))
    xs = np.empty((1, n_rows))
    states = np.zeros(1, np.int64)
    farthest = np.float64(price.shape[1] - 8)  # candidates reach four multiples beyond
    for j in range(working.shape[0]):
        for r in range(n_rows):
            x = working[j, r] / (np.float64(scales[r]) * np.float64(factors[j]))
            xs[0, r] = min(max(x, -farthest), farthest)
        here = slice(j, j + 1)
        states[0] = 0
        search(xs, ones, price, classes[here], sources, costs, came_by, multiples[here], states)
        feed_forward_(working, upper, j, scales, factors[j], multiples[j], errors)
