"""Trellis GPTQ: a trellis down the rows of each column, Hessian feedback across the columns.

A column's weights are searched as one trellis path of least error + λ·bits, then the later columns
make up for its errors as in GPTQ. The feedback needs no state per surviving path, because it enters
between columns, never within one.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from numba import njit

from squeeze.calib.curvature import Factor, Float64
from squeeze.calib.floats import Float32
from squeeze.calib.gptq import blocks, feed_forward_, in_order, in_tensor_order, prepare
from squeeze.calib.quantized import QuantizedTensor
from squeeze.codecs.trellis_kernels import search
from squeeze.codecs.trellis_rates import bits_of, counted, first_guess, scale_classes
from squeeze.codecs.trellis_tables import check_states, sources
from squeeze.errors import BadConfig, BadData

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
    n_states: int = 8,
    lam: float = LAMBDA,
    step_format: str = "fp16",
    logical: str = "fp32",
) -> TrellisGptq:
    """Quantize a tensor to trellis indices.

    weights: float32, rows are the first dimension. factor: of the Hessian of the inputs. steps:
    float32[R] > 0, rounded to `step_format` before anything is chosen. columns: step exponents in
    eighths of an octave. lam: squared steps per bit; right when steps² ∝ 1 / sensitivity, as
    `squeeze.calib.waterfill` makes them. Weights of dead columns count as 0.

    Raises BadConfig for an unknown trellis or a negative lam; BadData for shapes that disagree,
    steps that are not positive once rounded, weights that are not finite or more than
    LARGEST_MULTIPLE steps large.
    """
    check_states(n_states)
    if not (np.isfinite(lam) and lam >= 0):
        raise BadConfig("trellis: lam out of range", expected="finite and ≥ 0", found=lam)
    matrix, patterns, scales = prepare(weights, factor, steps, columns, step_format)
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
            _sweep_(
                working.copy(), factor, scales, factors, states, lam * price, classes, multiples
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
    scales: Float32,
    factors: Float32,
    n_states: int,
    price: Float64,
    classes: npt.NDArray[np.uint8],
    multiples: npt.NDArray[np.int32],
) -> None:
    """One pass over all columns; fills `multiples` int32[C, R] and uses `working` up."""
    n_rows = working.shape[1]
    workspace = (np.empty((2, n_states)), np.empty((n_rows, n_states), np.uint8))
    for first, last in blocks(len(working)):
        errors = np.empty((last - first, n_rows))
        _search_block_(
            working[first:last], factor.upper[first:last, first:last], scales, factors[first:last],
            price, classes[first:last], sources(n_states), *workspace, multiples[first:last], errors,
        )  # fmt: skip
        working[last:] -= factor.upper[first:last, last:].T @ errors


@njit(cache=True, nogil=True)
def _search_block_(
    working: Float64, upper: Float64, scales: Float32, factors: Float32, price: Float64,
    classes: npt.NDArray[np.uint8], sources: npt.NDArray[np.uint8], costs: Float64,
    came_by: npt.NDArray[np.uint8], multiples: npt.NDArray[np.int32], errors: Float64,
) -> None:  # fmt: skip
    n_rows = working.shape[1]
    ones = np.ones((1, n_rows))
    xs = np.empty((1, n_rows))
    farthest = np.float64(price.shape[1] - 8)  # candidates reach four multiples beyond
    for j in range(working.shape[0]):
        for r in range(n_rows):
            x = working[j, r] / (np.float64(scales[r]) * np.float64(factors[j]))
            xs[0, r] = min(max(x, -farthest), farthest)
        chosen = multiples[j : j + 1]
        search(xs, ones, price, classes[j : j + 1], sources, costs, came_by, chosen)
        feed_forward_(working, upper, j, scales, factors[j], multiples[j], errors)
