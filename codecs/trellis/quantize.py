"""Entropy-coded trellis quantization: float weights to integer indices, at the best price in bits.

A weight becomes n·step. The integers n are split in even and odd ones; the state of a trellis says
which are allowed, and the transmitted index k = n >> 1 moves the state by its parity. The search
finds, for each column of a matrix, the path of least error + λ·bits. See docs/trellis.md.
"""

from __future__ import annotations

import math
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from squeeze.codecs.trellis.kernels import Columns, fill_multiples_
from squeeze.codecs.trellis.rates import (
    Rates,
    best_lambda,
    bits_of,
    counted,
    first_guess,
    scale_classes,
)
from squeeze.codecs.trellis.search import ColumnSearch
from squeeze.codecs.trellis.tables import check_states, next_states, supersets
from squeeze.errors import BadConfig, SqueezeError

__all__ = [
    "ColumnSearch",
    "Rates",
    "TrellisResult",
    "best_lambda",
    "dequantize_trellis",
    "fit_rates",
    "next_states",
    "quantize_trellis",
    "supersets",
]

Floats = npt.NDArray[np.float64]

LARGEST_MULTIPLE = 65_000  # indices stay within int16 even where the search steps outwards
RATE_ROUNDS = 3  # a fourth moves the gap by less than 0.0005 bit, down to 1 bit per weight
SAMPLE_WEIGHTS = 1 << 17
BLOCK_COLUMNS = 32


@dataclass(frozen=True)
class TrellisResult:
    """What the search chose.

    indices: int8 or int16 [R, C], the smallest type that holds them. rates: what they were
    expected to cost.
    """

    indices: npt.NDArray[Any]
    rates: Rates
    n_states: int


def quantize_trellis(
    weights: npt.NDArray[np.float32],
    step: npt.ArrayLike,
    n_states: int,
    lam: float | None = None,
    *,
    rates: Rates | None = None,
    importance: npt.ArrayLike = 1.0,
    threads: int | None = None,
) -> TrellisResult:
    """Minimise Σ importance·((w − n·step) / step)² + lam·bits(n), each column a path from state 0.

    weights: float32[R, C]. step: > 0, broadcast to [R, C]. importance: ≥ 0, broadcast to [R, C],
    weighs errors measured in steps; 1 is right where the steps already follow the sensitivity
    (step² ∝ 1 / sensitivity). lam: squared steps per bit, by default `best_lambda`. rates: from
    `fit_rates`, which is called by default. threads: default one a core; the result does not
    depend on it.

    Raises BadConfig for an unknown trellis, and for a step, importance or lam out of range;
    SqueezeError for weights that are not finite or too large for their step.
    """
    problem = _validated(weights, step, n_states, lam, importance, threads)
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
    lam: float | None = None,
    *,
    importance: npt.ArrayLike = 1.0,
    threads: int | None = None,
) -> Rates:
    """The rate tables `quantize_trellis` would use, fitted to a sample of columns."""
    return _fit(_validated(weights, step, n_states, lam, importance, threads))


def dequantize_trellis(indices: npt.NDArray[Any], n_states: int) -> npt.NDArray[np.int32]:
    """The multiples n of the step, int32[R, C], for integer indices [R, C]. Exact.

    Down each column, from state 0: n = 2k + superset(state); state = next_states[state, k & 1].

    >>> dequantize_trellis(np.array([[1], [0], [-2]], np.int8), 4).ravel().tolist()
    [2, 1, -4]
    """
    table = next_states(n_states).copy()
    multiples = np.empty(indices.shape, np.int32)
    fill_multiples_(multiples, np.ascontiguousarray(indices), table)
    return multiples


@dataclass(frozen=True)
class _Problem:
    """A validated matrix with all that the search needs but the prices."""

    weights: npt.NDArray[np.float32]
    steps: Floats
    importances: Floats
    n_states: int
    threads: int
    lam: float
    largest: float  # |weight| in steps

    @property
    def table_length(self) -> int:
        """Magnitudes a price table must hold: candidates lie at most 4 beyond a weight."""
        return int(self.largest) + 8

    def search(
        self, chosen: slice, price: Floats, classes: npt.NDArray[np.uint8]
    ) -> npt.NDArray[np.int32]:
        """Multiples int32[R, n] of the chosen columns, in blocks spread over the threads."""
        weights, steps = self.weights[:, chosen], self.steps[:, chosen]
        importances, classes = self.importances[:, chosen], classes[:, chosen]
        multiples = np.empty(weights.shape, np.int32)

        def search_block(first: int) -> None:
            block = slice(first, first + BLOCK_COLUMNS)
            columns = Columns(
                np.ascontiguousarray((weights[:, block] / steps[:, block]).T),
                np.ascontiguousarray(importances[:, block].T),
                np.ascontiguousarray(classes[:, block].T),
            )
            block_multiples = np.empty(columns.targets.shape, np.int32)
            ColumnSearch(weights.shape[0], self.n_states).search_(columns, price, block_multiples)
            multiples[:, block] = block_multiples.T

        with ThreadPoolExecutor(self.threads) as pool:
            list(pool.map(search_block, range(0, weights.shape[1], BLOCK_COLUMNS)))
        return multiples


def _validated(
    weights: npt.NDArray[np.float32],
    step: npt.ArrayLike,
    n_states: int,
    lam: float | None,
    importance: npt.ArrayLike,
    threads: int | None,
) -> _Problem:
    check_states(n_states)
    if weights.ndim != 2 or weights.dtype != np.float32:
        raise SqueezeError(
            "trellis: cannot quantize this array",
            expected="2-D of float32",
            found=f"{weights.ndim}-D of {weights.dtype}",
        )
    if lam is not None and not (np.isfinite(lam) and lam >= 0):
        raise BadConfig("trellis: lam out of range", expected="finite and ≥ 0", found=lam)
    steps = _broadcast(step, weights.shape, "step")
    if not (np.isfinite(steps).all() and (steps > 0).all()):
        raise BadConfig("trellis: step out of range", expected="finite and > 0", found=steps.min())
    importances = _broadcast(importance, weights.shape, "importance")
    if not (np.isfinite(importances).all() and (importances >= 0).all()):
        raise BadConfig(
            "trellis: importance out of range", expected="finite and ≥ 0", found=importances.min()
        )
    if not np.isfinite(weights).all():
        raise SqueezeError("trellis: weights are not finite")
    with np.errstate(over="ignore"):
        scaled = weights / steps
        largest = float(np.abs(scaled).max(initial=0.0))
    if largest > LARGEST_MULTIPLE:
        raise SqueezeError(
            "trellis: weights too large for their step",
            expected=f"at most {LARGEST_MULTIPLE} steps",
            found=f"{largest:.6g}",
        )
    if lam is None:
        rms = math.sqrt(float((scaled**2).mean())) if scaled.size else 0.0
        lam = best_lambda(1.0 / max(rms, 1e-9))
    return _Problem(weights, steps, importances, n_states, threads or _cores(), lam, largest)


def _fit(problem: _Problem) -> Rates:
    """Rates and indices depend on each other: alternate on a sample, from a geometric guess."""
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


def _broadcast(value: npt.ArrayLike, shape: tuple[int, ...], name: str) -> Floats:
    try:
        return np.broadcast_to(np.asarray(value, np.float64), shape)
    except ValueError:
        raise BadConfig(
            f"trellis: {name} does not fit the weights",
            expected=f"a shape that broadcasts to {shape}",
            found=np.shape(value),
        ) from None


def _indices(multiples: npt.NDArray[np.int32]) -> npt.NDArray[Any]:
    """n >> 1 as the smallest of int8 and int16 that holds it."""
    indices = multiples >> 1
    fits = indices.size == 0 or (indices.min() >= -128 and indices.max() <= 127)
    return indices.astype(np.int8 if fits else np.int16)


def _cores() -> int:
    return len(os.sched_getaffinity(0))
