"""Compiled trellis search and its inverse. Mirrors trellis_reference.py operation by operation.

Floating point appears in the search only, always float64, in one fixed order and without fastmath:
the indices are the same on every run and for every number of threads. The inverse is integer-only.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from squeeze.codecs.jit import njit

Floats = npt.NDArray[np.float64]


@njit(nogil=True, inline="always")
def cheapest(x: float, floor: int, weight: float, price: Floats, base: int, z: int) -> Any:
    """(multiple, cost) of the best candidate n with n ≡ z (mod 4).

    Candidates: the two that enclose x, and the one nearest to zero, which is the cheapest to code.
    `base` is where the prices of this weight's class start.
    """
    n = floor - ((floor - z) & 3)
    cost = weight * ((x - n) * (x - n)) + price[base + abs(n)]
    above = n + 4
    other = weight * ((x - above) * (x - above)) + price[base + abs(above)]
    if other < cost:
        n = above
        cost = other
    small = z if z < 2 else z - 4
    if z == 2 and x > 0.0:
        small = 2
    other = weight * ((x - small) * (x - small)) + price[base + abs(small)]
    if other < cost:
        n = small
        cost = other
    return n, cost


@njit(nogil=True)
def search(
    xs: Floats,
    weights: Floats,
    price: Floats,
    classes: npt.NDArray[np.uint8],
    sources: npt.NDArray[np.uint8],
    costs: Floats,
    came_by: npt.NDArray[np.uint8],
    multiples: npt.NDArray[np.int32],
    states: npt.NDArray[np.int64],
) -> None:
    """Viterbi search of each row of `xs`; writes `multiples`, int32[B, N].

    states: int64[B], the state each row starts in (0 for a whole column), replaced by the one it ends
    in, so that a column can be searched piece by piece.

    xs: float64[B, N], in steps. weights: float64[B or 1, N]. price: float64[G, M], C-contiguous,
    the cost of coding |n| = m in each class of weights. classes: uint8[B or 1, N].
    sources: uint8[S, 2], the state before `state` when the parity was 0 or 1.
    Workspace: costs float64[2, S], came_by uint8[N, S] (the parity of the surviving branch).
    """
    n_states = sources.shape[0]
    half = n_states // 2
    length = price.shape[1]
    prices = price.ravel()
    for b in range(xs.shape[0]):
        x_row = xs[b]
        w_row = weights[min(b, weights.shape[0] - 1)]
        class_row = classes[min(b, classes.shape[0] - 1)]
        old = costs[0]
        new = costs[1]
        old[:] = np.inf
        old[states[b]] = 0.0
        for i in range(x_row.shape[0]):
            x = x_row[i]
            base = length * int(class_row[i])
            floor = int(np.floor(x))
            b0 = cheapest(x, floor, w_row[i], prices, base, 0)[1]
            b1 = cheapest(x, floor, w_row[i], prices, base, 1)[1]
            b2 = cheapest(x, floor, w_row[i], prices, base, 2)[1]
            b3 = cheapest(x, floor, w_row[i], prices, base, 3)[1]
            survivor = came_by[i]
            # Branches into the lower half come from superset A0, into the upper half from A1.
            for t in range(half):
                even = old[sources[t, 0]] + b0
                odd = old[sources[t, 1]] + b2
                new[t] = odd if odd < even else even
                survivor[t] = odd < even
            for t in range(half, n_states):
                even = old[sources[t, 0]] + b1
                odd = old[sources[t, 1]] + b3
                new[t] = odd if odd < even else even
                survivor[t] = odd < even
            old, new = new, old
        state = 0
        for t in range(1, n_states):
            if old[t] < old[state]:
                state = t
        states[b] = state
        for i in range(x_row.shape[0] - 1, -1, -1):
            parity = int(came_by[i, state])
            state = int(sources[state, parity])
            x = x_row[i]
            base = length * int(class_row[i])
            z = 2 * parity + (state & 1)
            multiples[b, i] = cheapest(x, int(np.floor(x)), w_row[i], prices, base, z)[0]


@njit(nogil=True)
def multiples_of(
    indices: npt.NDArray[Any], table: npt.NDArray[np.uint8], multiples: npt.NDArray[np.int32]
) -> None:
    """Writes the multiples int32[R, C] that `indices` [R, C] stand for, each column from state 0."""
    states = np.zeros(indices.shape[1], np.uint8)
    for r in range(indices.shape[0]):
        for c in range(indices.shape[1]):
            index = np.int32(indices[r, c])
            state = states[c]
            multiples[r, c] = 2 * index + (state & 1)
            states[c] = table[state, index & 1]
