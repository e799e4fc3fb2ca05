"""The trellises: which state follows which, and which half of the integers a state may use.

The integers are split in four subsets D0..D3 by their residue modulo 4, so that neighbours within
a subset lie 4 apart, and in two supersets: A0 = D0 ∪ D2 (even) and A1 = D1 ∪ D3 (odd). A state
allows one superset; the parity of the index transmitted within it names the subset and thereby the
next state. No side bits are needed: the indices determine the path.

Codes: rate-1/2 systematic feedback convolutional codes with the parity-check polynomials for
one-dimensional amplitude modulation of G. Ungerboeck, "Trellis-coded modulation with redundant
signal sets, part II", IEEE Communications Magazine 25(2), 1987, table I.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import numpy.typing as npt

from squeeze.errors import BadConfig

# states: (h1, h0, squared free distance in units of the spacing of the union codebook).
PARITY_CHECKS = {
    4: (0o2, 0o5, 9),
    8: (0o04, 0o13, 10),
    16: (0o04, 0o23, 11),
    32: (0o10, 0o45, 13),
    64: (0o024, 0o103, 14),
    128: (0o126, 0o235, 16),
    256: (0o362, 0o515, 16),
}


def check_states(n_states: int) -> None:
    """Raise BadConfig unless there is a trellis with `n_states` states."""
    if n_states not in PARITY_CHECKS:
        raise BadConfig(
            "trellis: no such number of states",
            expected=", ".join(map(str, PARITY_CHECKS)),
            found=n_states,
        )


@cache
def next_states(n_states: int) -> npt.NDArray[np.uint8]:
    """Return the state after each state, for an even and an odd index.

    The table is uint8[n_states, 2], read-only.

    The code words are the pairs (z1, z0) with h1·z1 + h0·z0 = 0 over GF(2)[D]. In the observer form
    z0 is the lowest bit of the state (the superset) and z1 is the free bit (the index's parity).
    """
    check_states(n_states)
    h1, h0, _ = PARITY_CHECKS[n_states]
    state = np.arange(n_states)[:, None]
    parity = np.arange(2)[None, :]
    table = ((state >> 1) ^ ((state & 1) * (h0 >> 1)) ^ (parity * (h1 >> 1))).astype(np.uint8)
    table.flags.writeable = False
    return table


@cache
def supersets(n_states: int) -> npt.NDArray[np.uint8]:
    """Return 0 for the states that allow A0, 1 for those that allow A1: uint8[n_states], read-only."""
    check_states(n_states)
    table = (np.arange(n_states) & 1).astype(np.uint8)
    table.flags.writeable = False
    return table


@cache
def sources(n_states: int) -> npt.NDArray[np.uint8]:
    """Return the state before each state, when the index was even and when it was odd.

    The table is uint8[n_states, 2], read-only.
    """
    table = np.empty((n_states, 2), np.uint8)
    for state, targets in enumerate(next_states(n_states)):
        table[targets, [0, 1]] = state
    table.flags.writeable = False
    return table
