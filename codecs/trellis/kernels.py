"""Compiled trellis search and its inverse; `reference` mirrors them operation by operation.

Floating point appears in the search only, always float64, in one fixed order and without fastmath:
the indices are the same on every run and for every number of threads. The inverse is integer-only.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from squeeze.codecs.jit import njit
from squeeze.codecs.trellis.tables import sources

Floats = npt.NDArray[np.float64]
Bytes = npt.NDArray[np.uint8]


class Columns(NamedTuple):
    """Columns to search, each a row of these arrays; C-contiguous.

    targets: float64[B, N], the weights in steps.
    importances: float64[B or 1, N], weights of the squared errors.
    classes: uint8[B or 1, N], which row of the price table each weight uses.
    """

    targets: Floats
    importances: Floats
    classes: Bytes


class Workspace(NamedTuple):
    """A trellis and the scratch arrays of a search through columns of N weights.

    sources: uint8[S, 2], the state before each state when the parity was 0 or 1.
    costs: float64[2, S], of the best path to each state, before and after a weight.
    came_by: uint8[N, S], the parity of the branch that survives.
    """

    sources: Bytes
    costs: Floats
    came_by: Bytes


def make_workspace(length: int, n_states: int) -> Workspace:
    """Return the workspace for columns of `length` weights. Raises BadConfig for an unknown trellis."""
    before = sources(n_states)
    return Workspace(before, np.empty((2, n_states)), np.empty((length, n_states), np.uint8))


@njit(nogil=True, _nrt=False, forceinline=True)
def cheapest(x: float, importance: float, price: Floats, z: int) -> Any:
    """Return (multiple, cost) of the best candidate n with n ≡ z (mod 4).

    Candidates: the two that enclose x, and the one nearest to zero, which is the cheapest to code.

    x: the weight in steps.
    importance: weight of its squared error.
    price: float64[M], the cost of coding |n| = m.
    """
    floor = int(np.floor(x))
    n = floor - ((floor - z) & 3)
    cost = importance * ((x - n) * (x - n)) + price[abs(n)]
    above = n + 4
    other = importance * ((x - above) * (x - above)) + price[abs(above)]
    if other < cost:
        n = above
        cost = other
    small = z if z < 2 else z - 4
    if z == 2 and x > 0.0:
        small = 2
    other = importance * ((x - small) * (x - small)) + price[abs(small)]
    if other < cost:
        n = small
        cost = other
    return n, cost


@njit(nogil=True, _nrt=False)
def search_(
    columns: Columns, prices: Floats, workspace_: Workspace, multiples_: npt.NDArray[np.int32]
) -> None:
    """Search the cheapest path of each column from state 0; fill `multiples_`, int32[B, N].

    prices: float64[G, M], C-contiguous, the cost of coding |n| = m in each class.
    """
    for b in range(columns.targets.shape[0]):
        importances = columns.importances[min(b, columns.importances.shape[0] - 1)]
        classes = columns.classes[min(b, columns.classes.shape[0] - 1)]
        column = Column(columns.targets[b], importances, classes)
        state = _survive_(column, prices, workspace_)
        _trace_back_(column, prices, workspace_, state, multiples_[b])


class Column(NamedTuple):
    """One column of `Columns`."""

    targets: Floats
    importances: Floats
    classes: Bytes


@njit(nogil=True, _nrt=False, forceinline=True)
def _survive_(column: Column, prices: Floats, workspace_: Workspace) -> int:
    """Fill `came_by` with the surviving branches; return the state in which the best path ends."""
    before = workspace_.sources
    n_states = before.shape[0]
    half = n_states // 2
    old, new = workspace_.costs[0], workspace_.costs[1]
    old[:] = np.inf
    old[0] = 0.0
    for i in range(column.targets.shape[0]):
        x, importance, price = column.targets[i], column.importances[i], prices[column.classes[i]]
        b0 = cheapest(x, importance, price, 0)[1]
        b1 = cheapest(x, importance, price, 1)[1]
        b2 = cheapest(x, importance, price, 2)[1]
        b3 = cheapest(x, importance, price, 3)[1]
        survivor = workspace_.came_by[i]
        # Branches into the lower half come from superset A0, into the upper half from A1.
        for t in range(half):
            even = old[before[t, 0]] + b0
            odd = old[before[t, 1]] + b2
            new[t] = odd if odd < even else even
            survivor[t] = odd < even
        for t in range(half, n_states):
            even = old[before[t, 0]] + b1
            odd = old[before[t, 1]] + b3
            new[t] = odd if odd < even else even
            survivor[t] = odd < even
        old, new = new, old
    state = 0
    for t in range(1, n_states):
        if old[t] < old[state]:
            state = t
    return state


@njit(nogil=True, _nrt=False, forceinline=True)
def _trace_back_(
    column: Column,
    prices: Floats,
    workspace: Workspace,
    state: int,
    multiples_: npt.NDArray[np.int32],
) -> None:
    """Fill `multiples_`, int32[N], along the surviving path that ends in `state`."""
    for i in range(column.targets.shape[0] - 1, -1, -1):
        parity = int(workspace.came_by[i, state])
        state = int(workspace.sources[state, parity])
        price = prices[column.classes[i]]
        z = 2 * parity + (state & 1)
        multiples_[i] = cheapest(column.targets[i], column.importances[i], price, z)[0]


@njit(nogil=True)
def fill_multiples_(
    multiples_: npt.NDArray[np.int32], indices: npt.NDArray[Any], next_states: Bytes
) -> None:
    """Fill int32[R, C] with the multiples that `indices` [R, C] stand for, each column from state 0.

    next_states: uint8[S, 2], the state after each state for an even and for an odd index.
    """
    states = np.zeros(indices.shape[1], np.uint8)
    for r in range(indices.shape[0]):
        for c in range(indices.shape[1]):
            index = np.int32(indices[r, c])
            state = states[c]
            multiples_[r, c] = 2 * index + (state & 1)
            states[c] = next_states[state, index & 1]
