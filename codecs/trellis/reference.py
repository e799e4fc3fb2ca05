"""The trellis search and its inverse in plain Python: the oracle of `kernels`.

Python floats are IEEE doubles, and every expression is evaluated in the order of the kernel, so the
two agree in every index, ties included.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from squeeze.codecs.trellis.tables import next_states, sources


def cheapest_reference(
    x: float, weight: float, price: Sequence[float], residue: int
) -> tuple[int, float]:
    """Return (n, cost) of the cheapest n ≡ residue (mod 4): the two around x, or the one next to 0."""
    floor = math.floor(x)
    below = floor - (floor - residue) % 4
    near_zero = {0: 0, 1: 1, 2: 2 if x > 0.0 else -2, 3: -1}[residue]
    best, best_cost = 0, math.inf
    for candidate, n in enumerate((below, below + 4, near_zero)):
        cost = weight * ((x - n) * (x - n)) + price[abs(n)]
        if candidate == 0 or cost < best_cost:
            best, best_cost = n, cost
    return best, best_cost


def search_reference(
    column: Sequence[float],
    weights: Sequence[float],
    price: Sequence[Sequence[float]],
    classes: Sequence[int],
    n_states: int,
) -> list[int]:
    """Return the multiples n of one column, in steps, by Viterbi's algorithm from state 0.

    On a tie the even index survives, and the lowest last state wins.
    """
    before = sources(n_states).tolist()
    costs = [0.0] + [math.inf] * (n_states - 1)
    history: list[tuple[list[tuple[int, float]], list[int]]] = []
    for x, weight, chosen in zip(column, weights, classes, strict=True):
        branches = [cheapest_reference(x, weight, price[chosen], residue) for residue in range(4)]
        new_costs, survivors = [], []
        for pair in before:
            totals = [
                costs[source] + branches[2 * parity + source % 2][1]
                for parity, source in enumerate(pair)
            ]
            survivors.append(int(totals[1] < totals[0]))
            new_costs.append(totals[survivors[-1]])
        costs = new_costs
        history.append((branches, survivors))
    state = costs.index(min(costs))
    multiples = []
    for branches, survivors in reversed(history):
        parity = survivors[state]
        state = before[state][parity]
        multiples.append(branches[2 * parity + state % 2][0])
    return multiples[::-1]


def multiples_reference(indices: Sequence[int], n_states: int) -> list[int]:
    """Return the multiples that the indices of one column stand for."""
    table = next_states(n_states).tolist()
    state, multiples = 0, []
    for k in indices:
        multiples.append(2 * k + state % 2)
        state = table[state][k % 2]
    return multiples
