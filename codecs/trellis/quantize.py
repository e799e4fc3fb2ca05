"""Entropy-coded trellis quantization: float weights to integer indices, at the best price in bits.

A weight becomes n·step. The integers n are split in even and odd ones; the state of a trellis says
which are allowed, and the transmitted index k = n >> 1 moves the state by its parity. The search
finds, for each column of a matrix, the path of least error + λ·bits. See docs/trellis.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from squeeze.codecs.trellis.kernels import fill_multiples_
from squeeze.codecs.trellis.problem import DEFAULTS, Problem, SearchOptions, validated
from squeeze.codecs.trellis.rates import (
    Rates,
    best_lambda,
    bits_of,
    counted,
    first_guess,
    scale_classes,
)
from squeeze.codecs.trellis.search import ColumnSearch
from squeeze.codecs.trellis.tables import next_states, supersets
from squeeze.errors import BadConfig

__all__ = [
    "ColumnSearch",
    "Rates",
    "SearchOptions",
    "TrellisResult",
    "best_lambda",
    "dequantize_trellis",
    "fit_rates",
    "next_states",
    "quantize_trellis",
    "supersets",
]

RATE_ROUNDS = 3  # a fourth moves the gap by less than 0.0005 bit, down to 1 bit per weight
SAMPLE_WEIGHTS = 1 << 17


@dataclass(frozen=True)
class TrellisResult:
    """Indices that a search chose.

    indices: int8 or int16 [R, C], the smallest type that holds them.
    rates: the prices that it expected of them.
    n_states: number of states of the trellis.
    """

    indices: npt.NDArray[Any]
    rates: Rates
    n_states: int


def quantize_trellis(
    weights: npt.NDArray[np.float32],
    step: npt.ArrayLike,
    n_states: int,
    options: SearchOptions = DEFAULTS,
) -> TrellisResult:
    """Minimise Σ importance·((w − n·step) / step)² + lam·bits(n), each column a path from state 0.

    weights: float32[R, C].
    step: > 0, broadcast to [R, C].
    n_states: number of states of the trellis, a key of `tables.PARITY_CHECKS`.

    Raises BadConfig for an unknown trellis, and for a step, importance or lam out of range;
    SqueezeError for weights that are not finite or too large for their step.
    """
    problem = validated(weights, step, n_states, options)
    rates = options.rates
    if rates is None:
        rates = _fit(problem)
    elif (
        rates.classes.shape != weights.shape
        or rates.classes.max(initial=0) >= rates.bits.shape[0]
        or rates.bits.shape[1] < problem.table_length
    ):
        raise BadConfig(
            "trellis: rates do not match this matrix",
            expected=f"classes {weights.shape}, at least {problem.table_length} magnitudes",
            found=f"classes {rates.classes.shape}, tables {rates.bits.shape}",
        )
    multiples = problem.search(slice(None), problem.lam * rates.bits, rates.classes)
    return TrellisResult(_indices(multiples), rates, n_states)


def fit_rates(
    weights: npt.NDArray[np.float32],
    step: npt.ArrayLike,
    n_states: int,
    options: SearchOptions = DEFAULTS,
) -> Rates:
    """Return the rates that `quantize_trellis` would use, fitted to a sample of columns."""
    return _fit(validated(weights, step, n_states, options))


def dequantize_trellis(indices: npt.NDArray[Any], n_states: int) -> npt.NDArray[np.int32]:
    """Return the multiples n of the step, int32[R, C], that integer indices [R, C] stand for. Exact.

    Down each column, from state 0: n = 2k + superset(state); state = next_states[state, k & 1].

    >>> dequantize_trellis(np.array([[1], [0], [-2]], np.int8), 4).ravel().tolist()
    [2, 1, -4]
    """
    table = next_states(n_states).copy()
    multiples = np.empty(indices.shape, np.int32)
    fill_multiples_(multiples, np.ascontiguousarray(indices), table)
    return multiples


def _fit(problem: Problem) -> Rates:
    """Fit rates to a sample: they and the indices depend on each other, so search and count in turn."""
    if problem.weights.size == 0:
        return Rates(np.zeros((1, 8)), np.zeros(problem.weights.shape, np.uint8))
    magnitudes = np.abs(problem.weights) / problem.steps
    classes = scale_classes(magnitudes)
    sample = slice(None, None, max(1, problem.weights.size // SAMPLE_WEIGHTS))
    guess = first_guess(magnitudes, classes, problem.table_length)
    bits = bits_of(guess)
    for _ in range(RATE_ROUNDS):
        multiples = problem.search(sample, problem.lam * bits, classes)
        bits = bits_of(counted(multiples, classes[:, sample], guess))
    return Rates(bits, classes)


def _indices(multiples: npt.NDArray[np.int32]) -> npt.NDArray[Any]:
    """Return n >> 1 in the smaller of int8 and int16 that holds it."""
    indices = multiples >> 1
    fits = indices.size == 0 or (indices.min() >= -128 and indices.max() <= 127)
    return indices.astype(np.int8 if fits else np.int16)
