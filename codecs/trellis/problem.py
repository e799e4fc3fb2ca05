"""A matrix that is ready to be searched: arguments checked, columns in blocks spread over threads."""

from __future__ import annotations

import math
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from squeeze.codecs.trellis.kernels import Columns
from squeeze.codecs.trellis.rates import Rates, best_lambda
from squeeze.codecs.trellis.search import ColumnSearch
from squeeze.codecs.trellis.tables import check_states
from squeeze.errors import BadConfig, SqueezeError

Floats = npt.NDArray[np.float64]

LARGEST_MULTIPLE = 65_000  # steps; indices stay within int16 even where the search steps outwards
BLOCK_COLUMNS = 32


@dataclass(frozen=True)
class SearchOptions:
    """Settings of a search.

    lam: price of a bit in squared steps, finite and ≥ 0; by default `best_lambda`.
    importance: weights of the errors, ≥ 0, broadcast to [R, C]; errors are measured in steps, so 1
    is right where the steps already follow the sensitivity (step² ∝ 1 / sensitivity).
    rates: prices of indices, from `fit_rates`; fitted by default.
    threads: number of threads, by default one a core; the result does not depend on it.
    """

    lam: float | None = None
    importance: npt.ArrayLike = 1.0
    rates: Rates | None = None
    threads: int | None = None


DEFAULTS = SearchOptions()


@dataclass(frozen=True)
class Problem:
    """A validated matrix with all that the search needs but the prices.

    weights, steps, importances: [R, C] each.
    largest: the largest |weight| in steps.
    """

    weights: npt.NDArray[np.float32]
    steps: Floats
    importances: Floats
    n_states: int
    threads: int
    lam: float
    largest: float

    @property
    def table_length(self) -> int:
        """Number of magnitudes in a price table: candidates lie at most 4 beyond a weight."""
        return int(self.largest) + 8

    def search(
        self, chosen: slice, prices: Floats, classes: npt.NDArray[np.uint8]
    ) -> npt.NDArray[np.int32]:
        """Return multiples int32[R, n] of the chosen columns, searched in blocks on all threads."""
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
            ColumnSearch(weights.shape[0], self.n_states).search_(columns, prices, block_multiples)
            multiples[:, block] = block_multiples.T

        with ThreadPoolExecutor(self.threads) as pool:
            list(pool.map(search_block, range(0, weights.shape[1], BLOCK_COLUMNS)))
        return multiples


def validated(
    weights: npt.NDArray[np.float32], step: npt.ArrayLike, n_states: int, options: SearchOptions
) -> Problem:
    """Return the problem that the arguments of `quantize_trellis` pose, or raise as it does."""
    check_states(n_states)
    if weights.ndim != 2 or weights.dtype != np.float32:
        raise SqueezeError(
            "trellis: cannot quantize this array",
            expected="2-D of float32",
            found=f"{weights.ndim}-D of {weights.dtype}",
        )
    lam = options.lam
    if lam is not None and not (np.isfinite(lam) and lam >= 0):
        raise BadConfig("trellis: lam out of range", expected="finite and ≥ 0", found=lam)
    steps = _broadcast(step, weights.shape, "step")
    if not (np.isfinite(steps).all() and (steps > 0).all()):
        raise BadConfig("trellis: step out of range", expected="finite and > 0", found=steps.min())
    importances = _broadcast(options.importance, weights.shape, "importance")
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
    threads = options.threads or _cores()
    return Problem(weights, steps, importances, n_states, threads, lam, largest)


def _broadcast(value: npt.ArrayLike, shape: tuple[int, ...], name: str) -> Floats:
    """Return `value` as float64 of this shape. Raises BadConfig, naming it, where it does not fit."""
    try:
        return np.broadcast_to(np.asarray(value, np.float64), shape)
    except ValueError:
        raise BadConfig(
            f"trellis: {name} does not fit the weights",
            expected=f"a shape that broadcasts to {shape}",
            found=np.shape(value),
        ) from None


def _cores() -> int:
    return len(os.sched_getaffinity(0))
