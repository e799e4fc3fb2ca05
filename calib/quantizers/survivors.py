"""Trellis search of a column in which later rows make up for the errors of earlier ones.

What a row should be depends on the errors of the rows before it, so on the path. Each surviving path
therefore carries what its last rows have added to the next ones (per-survivor processing: Raheli,
Polydoros, Tzou, IEEE Transactions on Communications 43(2/3/4), 1995). Once paths have had LAG rows to
agree, those that disagree with the best are dropped, and what the agreed rows add farther down is
added for all. Cutting the column into blocks instead, with feedback between them, costs far more: at
each cut a path is no better than a scalar quantizer (docs/log.md).
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from squeeze.calib.quantizers.gptq import feed_forward_
from squeeze.calib.statistics.curvature import Float64
from squeeze.codecs.jit import njit
from squeeze.codecs.trellis.kernels import cheapest
from squeeze.codecs.trellis.reference import cheapest_reference
from squeeze.codecs.trellis.tables import next_states
from squeeze.tensors.floats import Float32

LAG = 64  # rows after which paths must agree; 32 costs 2 % of the loss more, docs/log.md
WINDOW = 2 * LAG  # rows that a path's own errors reach


def nearby(shares: Float64) -> Float32:
    """float32[R, WINDOW]: what each row adds to the rows right after it, from shares [R, R]."""
    near = np.zeros((len(shares), WINDOW), np.float32)
    for distance in range(1, min(WINDOW + 1, len(shares))):
        near[: len(shares) - distance, distance - 1] = shares.diagonal(distance)
    return near


@njit(nogil=True)
def search_block_(
    working: Float64, upper: Float64, scales: Float32, factors: Float32, price: Float64,
    classes: npt.NDArray[np.uint8], sources: npt.NDArray[np.uint8], shares: Float64, near: Float32,
    multiples: npt.NDArray[np.int32], errors: Float64,
) -> None:  # fmt: skip
    """Columns of a block one after the other; fills `multiples` int32[B, R] and uses `working` up.

    working: float64[B, R]; upper: U of the block; classes: uint8[B, R]; shares: float64[R, R], of
    which row r's entries behind r say what a unit error of r adds to later rows; near: `nearby` of
    them; errors: float64[B, R], as `feed_forward_` leaves them.
    """
    n_cols, n_rows = working.shape
    n_states = sources.shape[0]
    came_by = np.empty((n_rows, n_states), np.uint8)
    chosen = np.empty((n_rows, n_states), np.int32)
    residuals = np.empty((n_rows, n_states), np.float32)
    owed = np.zeros((2, n_states, near.shape[1] + 1), np.float32)
    steps = np.empty(n_rows)
    for j in range(n_cols):
        for r in range(n_rows):
            steps[r] = np.float64(scales[r]) * np.float64(factors[j])
        _search_(
            working[j].copy(), steps, price, classes[j], sources, shares, near, came_by, chosen,
            residuals, owed, multiples[j],
        )  # fmt: skip
        feed_forward_(working, upper, j, scales, factors[j], multiples[j], errors)


@njit(nogil=True)
def _search_(
    target: Float64, steps: Float64, price: Float64, classes: npt.NDArray[np.uint8],
    sources: npt.NDArray[np.uint8], shares: Float64, near: Float32,
    came_by: npt.NDArray[np.uint8], chosen: npt.NDArray[np.int32], residuals: Float32,
    owed: Float32, multiples: npt.NDArray[np.int32],
) -> None:  # fmt: skip
    """Viterbi from state 0 to any last state; uses `target` float64[R] up.

    Workspace by row and state: came_by (parity of the surviving branch), chosen (its multiple),
    residuals (what it leaves, in weights); owed float32[2, S, WINDOW + 1], what each path's rows add
    to the next ones, the last entry 0.
    """
    n_rows, n_states, window = len(target), sources.shape[0], near.shape[1]
    lag = window // 2
    length = price.shape[1]
    prices = price.ravel()
    farthest = np.float64(length - 8)  # candidates reach four multiples beyond
    old, new = np.empty(n_states), np.empty(n_states)
    old[:] = np.inf
    old[0] = 0.0
    ancestors, next_ancestors = np.zeros(n_states, np.int64), np.zeros(n_states, np.int64)
    debts, next_debts = owed[0], owed[1]
    debts[:] = 0.0
    costs = np.empty((n_states, 2))
    options = np.empty((n_states, 2), np.int32)
    leaves = np.empty((n_states, 2), np.float32)
    for i in range(n_rows):
        base = length * int(classes[i])
        for state in range(n_states):
            costs[state] = np.inf
            if old[state] == np.inf:
                continue
            wanted = target[i] + np.float64(debts[state, 0])
            x = min(max(wanted / steps[i], -farthest), farthest)
            floor = int(np.floor(x))
            for parity in range(2):
                n, cost = cheapest(x, floor, 1.0, prices, base, 2 * parity + (state & 1))
                costs[state, parity] = old[state] + cost
                options[state, parity] = n
                leaves[state, parity] = wanted - n * steps[i]
        for state in range(n_states):
            parity = int(costs[sources[state, 1], 1] < costs[sources[state, 0], 0])
            before = int(sources[state, parity])
            new[state] = costs[before, parity]
            if new[state] == np.inf:
                continue
            came_by[i, state] = parity
            chosen[i, state] = options[before, parity]
            next_ancestors[state] = ancestors[before]
            left = leaves[before, parity]
            residuals[i, state] = left
            kept, shifted, row = next_debts[state], debts[before], near[i]
            for k in range(window):
                kept[k] = shifted[k + 1] + left * row[k]
        old, new = new, old
        debts, next_debts = next_debts, debts
        ancestors, next_ancestors = next_ancestors, ancestors
        if (i + 1) % lag == 0 and i + 1 < n_rows:
            agreed = ancestors[np.argmin(old)]  # the best path's state `lag` rows ago
            if i >= lag:
                for state in range(n_states):
                    if ancestors[state] != agreed:
                        old[state] = np.inf
                _settle_(target, i - lag, lag, agreed, sources, came_by, residuals, shares, window)
            for state in range(n_states):
                ancestors[state] = state
    state = int(np.argmin(old))
    for i in range(n_rows - 1, -1, -1):
        multiples[i] = chosen[i, state]
        state = int(sources[state, came_by[i, state]])


@njit(nogil=True)
def _settle_(
    target: Float64, last: int, count: int, state: int, sources: npt.NDArray[np.uint8],
    came_by: npt.NDArray[np.uint8], residuals: Float32, shares: Float64, window: int,
) -> None:  # fmt: skip
    """Add what the `count` rows up to `last`, on the path to `state`, add beyond their window."""
    for i in range(last, last - count, -1):
        left = np.float64(residuals[i, state])
        row = shares[i]
        for later in range(i + window + 1, len(target)):
            target[later] += left * row[later]
        state = int(sources[state, came_by[i, state]])


def search_fed_reference(
    target: list[float],
    steps: list[float],
    price: list[list[float]],
    classes: list[int],
    shares: list[list[float]],
    n_states: int,
) -> list[int]:
    """The multiples of one column in plain Python: every path carries the targets of all its rows.

    Paths never have to agree, so it is the kernel's oracle for columns of at most LAG rows.
    """
    table = next_states(n_states).tolist()
    paths: dict[int, tuple[float, list[int], list[float]]] = {0: (0.0, [], list(target))}
    for i, (step, kind) in enumerate(zip(steps, classes, strict=True)):
        survivors: dict[int, tuple[float, list[int], list[float]]] = {}
        for state, (cost, multiples, targets) in paths.items():
            for parity in range(2):
                residue = 2 * parity + state % 2
                n, added = cheapest_reference(targets[i] / step, 1.0, price[kind], residue)
                after = table[state][parity]
                if cost + added < survivors.get(after, (math.inf,))[0]:
                    left = targets[i] - n * step
                    later = [t + left * shares[i][r] for r, t in enumerate(targets)]
                    survivors[after] = (cost + added, [*multiples, n], later)
        paths = survivors
    return min(paths.values(), key=lambda path: path[0])[1]
