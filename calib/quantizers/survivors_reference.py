"""The search of `survivors` in plain Python: the oracle of its kernel."""

from __future__ import annotations

import math
from collections.abc import Sequence

from squeeze.codecs.trellis.reference import cheapest_reference
from squeeze.codecs.trellis.tables import next_states

Path = tuple[float, list[int], list[float]]  # cost, multiples so far, targets of all rows


def search_fed_reference(
    rows: Sequence[tuple[float, float, Sequence[float]]],
    shares: Sequence[Sequence[float]],
    n_states: int,
) -> list[int]:
    """Return the multiples of one column, where every path carries the targets of all its rows.

    Paths never have to agree, so it is the kernel's oracle for columns of at most `survivors.LAG`
    rows.

    rows: target, step and price table of each row.
    shares: [R][R], the sums that a unit error of one row adds to each row.
    n_states: of the trellis.
    """
    table = next_states(n_states).tolist()
    paths: dict[int, Path] = {0: (0.0, [], [target for target, _, _ in rows])}
    for i, (_, step, price) in enumerate(rows):
        survivors: dict[int, Path] = {}
        for state, (cost, multiples, targets) in paths.items():
            for parity in range(2):
                residue = 2 * parity + state % 2
                n, added = cheapest_reference(targets[i] / step, 1.0, price, residue)
                after = table[state][parity]
                if cost + added < survivors.get(after, (math.inf,))[0]:
                    residual = targets[i] - n * step
                    later = [
                        t + residual * share for t, share in zip(targets, shares[i], strict=True)
                    ]
                    survivors[after] = (cost + added, [*multiples, n], later)
        paths = survivors
    return min(paths.values(), key=lambda path: path[0])[1]
