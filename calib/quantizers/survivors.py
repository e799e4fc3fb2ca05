"""Trellis search of a column in which later rows make up for the errors of earlier ones.

A row's target depends on the errors of the rows before it, so on the path. Each surviving path
therefore carries the sums that its last rows add to the next ones (per-survivor processing: Raheli,
Polydoros, Tzou, IEEE Transactions on Communications 43(2/3/4), 1995). Once paths have had LAG rows to
agree, those that disagree with the best are dropped, and the sums that the agreed rows add farther
down are added for all. Cutting the column into blocks instead, with feedback between them, costs far
more: at each cut a path is no better than a scalar quantizer (docs/log.md).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from squeeze.calib.quantizers.gptq import Block, Pricing, feed_forward_
from squeeze.calib.statistics.curvature import Float64
from squeeze.codecs.jit import njit
from squeeze.codecs.trellis.kernels import cheapest
from squeeze.codecs.trellis.tables import sources
from squeeze.tensors.floats import Float32

LAG = 64  # rows after which paths must agree; 32 costs 2 % of the loss more, docs/log.md
WINDOW = 2 * LAG  # rows that a path's own errors reach


class Column(NamedTuple):
    """A column to search.

    targets: float64[R], its weights; the search adds to them the errors of rows far above.
    steps: float64[R], the step of each row.
    classes: uint8[R], the row of the price table that each weight uses.
    multiples: int32[R], filled with the multiples that the search chooses.
    """

    targets: Float64
    steps: Float64
    classes: npt.NDArray[np.uint8]
    multiples: npt.NDArray[np.int32]


class Paths(NamedTuple):
    """The best path to each state.

    costs: float64[S], infinite where there is none.
    ancestors: int64[S], its state when the paths last had to agree.
    debts: float32[S, WINDOW + 1], the sums its rows add to each of the next rows; the last is 0.
    """

    costs: Float64
    ancestors: npt.NDArray[np.int64]
    debts: Float32


class Branches(NamedTuple):
    """The two branches that leave each state, for an even and for an odd index.

    costs: float64[S, 2], of the path and the branch.
    multiples: int32[S, 2], of the step.
    residuals: float32[S, 2], weight less quantized weight.
    """

    costs: Float64
    multiples: npt.NDArray[np.int32]
    residuals: Float32


class Workspace(NamedTuple):
    """The feedback between R rows, a trellis of S states, and the scratch arrays of a search.

    shares: float64[R, R], whose entries behind the diagonal are the sums that a unit error of one
    row adds to each later row.
    near: float32[R, WINDOW], the shares of the rows right behind each row.
    sources: uint8[S, 2], the state before each state when the parity was 0 or 1.
    came_by: uint8[R, S], the parity of the branch that survives in each row and state.
    multiples: int32[R, S], its multiple.
    residuals: float32[R, S], its residual.
    """

    shares: Float64
    near: Float32
    sources: npt.NDArray[np.uint8]
    came_by: npt.NDArray[np.uint8]
    multiples: npt.NDArray[np.int32]
    residuals: Float32
    old: Paths
    new: Paths
    branches: Branches


def make_workspace(shares: Float64, n_states: int) -> Workspace:
    """Return the workspace for columns whose rows feed errors forward by `shares`, float64[R, R]."""
    n_rows = len(shares)

    def paths() -> Paths:
        return Paths(
            np.empty(n_states),
            np.zeros(n_states, np.int64),
            np.zeros((n_states, WINDOW + 1), np.float32),
        )

    return Workspace(
        shares,
        nearby(shares),
        sources(n_states),
        np.empty((n_rows, n_states), np.uint8),
        np.empty((n_rows, n_states), np.int32),
        np.empty((n_rows, n_states), np.float32),
        paths(),
        paths(),
        Branches(
            np.empty((n_states, 2)),
            np.empty((n_states, 2), np.int32),
            np.empty((n_states, 2), np.float32),
        ),
    )


def nearby(shares: Float64) -> Float32:
    """Return float32[R, WINDOW]: the shares, of float64[R, R], of the rows right behind each row."""
    near = np.zeros((len(shares), WINDOW), np.float32)
    for distance in range(1, min(WINDOW + 1, len(shares))):
        near[: len(shares) - distance, distance - 1] = shares.diagonal(distance)
    return near


@njit(nogil=True)
def search_block_(
    block_: Block, pricing: Pricing, workspace_: Workspace, multiples_: npt.NDArray[np.int32]
) -> None:
    """Search the columns of a block one after the other; fill `multiples_`, int32[B, R]."""
    n_cols, n_rows = block_.working.shape
    steps = np.empty(n_rows)
    for j in range(n_cols):
        for r in range(n_rows):
            steps[r] = np.float64(block_.scales[r]) * np.float64(block_.factors[j])
        column = Column(block_.working[j].copy(), steps, pricing.classes[j], multiples_[j])
        _search_(column, pricing.prices, workspace_)
        feed_forward_(block_, j, multiples_[j])


@njit(nogil=True, _nrt=False)
def _search_(column_: Column, prices: Float64, workspace_: Workspace) -> None:
    """Search a column by Viterbi's algorithm, from state 0 to any last state."""
    n_rows, lag = len(column_.targets), workspace_.near.shape[1] // 2
    old, new = workspace_.old, workspace_.new
    old.costs[:] = np.inf
    old.costs[0] = 0.0
    old.ancestors[:] = 0
    old.debts[:] = 0.0
    for i in range(n_rows):
        _branch_(column_, i, prices, old, workspace_.branches)
        _survive_(i, old, new, workspace_)
        old, new = new, old
        if (i + 1) % lag == 0 and i + 1 < n_rows:
            if i >= lag:
                _agree_(column_.targets, i - lag, old, workspace_)
            for state in range(len(old.ancestors)):
                old.ancestors[state] = state
    state = int(np.argmin(old.costs))
    for i in range(n_rows - 1, -1, -1):
        column_.multiples[i] = workspace_.multiples[i, state]
        state = int(workspace_.sources[state, workspace_.came_by[i, state]])


@njit(nogil=True, _nrt=False, forceinline=True)
def _branch_(column: Column, i: int, prices: Float64, old: Paths, branches_: Branches) -> None:
    """Fill the branches through row i that leave the states with a path."""
    step, price = column.steps[i], prices[column.classes[i]]
    farthest = np.float64(len(price) - 8)  # candidates reach four multiples beyond
    for state in range(len(old.costs)):
        branches_.costs[state] = np.inf
        if old.costs[state] == np.inf:
            continue
        target = column.targets[i] + np.float64(old.debts[state, 0])
        x = min(max(target / step, -farthest), farthest)
        for parity in range(2):
            n, cost = cheapest(x, 1.0, price, 2 * parity + (state & 1))
            branches_.costs[state, parity] = old.costs[state] + cost
            branches_.multiples[state, parity] = n
            branches_.residuals[state, parity] = target - n * step


@njit(nogil=True, _nrt=False, forceinline=True)
def _survive_(i: int, old: Paths, new_: Paths, workspace_: Workspace) -> None:
    """Choose the cheaper of the two branches of row i that enter each state."""
    before, branches, near = workspace_.sources, workspace_.branches, workspace_.near[i]
    for state in range(len(old.costs)):
        parity = int(branches.costs[before[state, 1], 1] < branches.costs[before[state, 0], 0])
        source = int(before[state, parity])
        new_.costs[state] = branches.costs[source, parity]
        if new_.costs[state] == np.inf:
            continue
        residual = branches.residuals[source, parity]
        workspace_.came_by[i, state] = parity
        workspace_.multiples[i, state] = branches.multiples[source, parity]
        workspace_.residuals[i, state] = residual
        new_.ancestors[state] = old.ancestors[source]
        debts, shifted = new_.debts[state], old.debts[source]
        for k in range(len(near)):
            debts[k] = shifted[k + 1] + residual * near[k]


@njit(nogil=True, _nrt=False)
def _agree_(targets_: Float64, last: int, paths_: Paths, workspace: Workspace) -> None:
    """Drop the paths that disagree with the best one up to row `last`.

    Half a window of rows up to `last` is then certain: the sums that they add beyond their window are
    added to the targets.
    """
    state = paths_.ancestors[np.argmin(paths_.costs)]
    for other in range(len(paths_.costs)):
        if paths_.ancestors[other] != state:
            paths_.costs[other] = np.inf
    window = workspace.near.shape[1]
    for i in range(last, last - window // 2, -1):
        residual = np.float64(workspace.residuals[i, state])
        row = workspace.shares[i]
        for later in range(i + window + 1, len(targets_)):
            targets_[later] += residual * row[later]
        state = np.int64(workspace.sources[state, workspace.came_by[i, state]])
