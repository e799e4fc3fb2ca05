"""The model of a matrix of weight indices that the coder adapts.

Row by row, each index is a few binary decisions: sign, and magnitude in unary. Their probabilities
depend on how large the index should be, and three estimates of that are mixed: the mean magnitude
of its column so far, of its row so far, and their product over the mean of the matrix. The contexts
that were tried, and the bytes that each one saves, stand in docs/log.md.

Units. A weight's value is v = 2·index + superset in half steps: the superset, 0 or 1, comes from
the trellis state of the column, and is 0 for scalar quantization. A *scale* is a mean of |v|/2 with
8 fractional bits. A *level* is its logarithm, 16 to the octave, from 2^-6 on.

Decisions. At even v symmetric around zero (superset 0) the first decision is "zero?", then the
sign, then the magnitude. Odd v has no zero: the sign comes first. Where the scale is 8 or more, the
last bits are cut off and coded after the rest, so that the unary part stays short; the sign comes
first there too.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from squeeze.codecs.context.mixing import NEW_SLOT, WEIGHT_ONE, Mixer, Slots

Integers = npt.NDArray[np.int64]

SCALE_BITS = 8
SCALE_LIMIT = (1 << 16) - 1
LEVELS = 128  # of a context: half as many to the octave as levels proper
NODES = 64  # decisions with statistics of their own: 32 for zero first, 32 for sign first
ZERO_FIRST, SIGN_FIRST = 0, 32
SECOND, THIRD = LEVELS * NODES, 2 * LEVELS * NODES  # the first slots of those contexts
LONGEST_UNARY = 24
LONGEST_GOLOMB = 34  # bits of what exceeds the unary part; more is damage
WORST_BITS = 14 * (LONGEST_UNARY + 2) + 2 * LONGEST_GOLOMB + 16  # an index can cost
SHORTEN_FROM = 8  # octaves above 2^-6: a scale of 8 and more loses low bits
ROW_WINDOW = 48
COLUMN_WINDOW = 100
MAGNITUDE_RATE, SIGN_RATE = 4, 40

# floor(16·log2(scale / 4)), from the bit length of scale^16: no logarithm, no rounding.
LEVEL = np.array(
    [0] * 4 + [(s**16).bit_length() - 1 - 32 for s in range(4, SCALE_LIMIT + 1)], np.uint8
)
# A mean over n values moves 1/n of the way to the next.
SHARE = np.array([0, *((1 << 16) // n for n in range(1, 1 + max(ROW_WINDOW, COLUMN_WINDOW)))])


class Trellis(NamedTuple):
    """Tables of the trellis that made the indices; scalar quantization is a trellis of one state.

    next_states: uint8[S, 2], the state after each state, for an even and for an odd index.
    supersets: uint8[S], 0 where a state's values are even, 1 where they are odd.
    """

    next_states: npt.NDArray[np.uint8]
    supersets: npt.NDArray[np.uint8]


class Start(NamedTuple):
    """The settings of a stream, which coder and decoder share before its first index.

    trellis: of all its columns.
    scale: mean of |v|/2 in the whole matrix, SCALE_BITS fractional bits.
    states: int64[columns], the trellis state that each column starts in.
    predict: True where rows are predicted from the rows before them.
    """

    trellis: Trellis
    scale: int
    states: Integers
    predict: bool


class Columns(NamedTuple):
    """Memory of each column, int64[columns] each.

    scale: mean of |v|/2 over its recent rows, SCALE_BITS fractional bits.
    mean: mean of v/2, SCALE_BITS fractional bits.
    above: sign of its last value, -1, 0 or 1.
    states: its trellis state.
    """

    scale: Integers
    mean: Integers
    above: Integers
    states: Integers


class ContextModel(NamedTuple):
    """All that adapts while one stream is coded, in arrays that the kernel changes, and the trellis.

    mixer: statistics of mixed decisions; NODES slots for each level of each of three contexts.
    low_slots: uint32[LONGEST_UNARY + 1], the highest of the low bits, by magnitude.
    recent: int64[2], the scale of the recent rows and the number of rows coded.
    """

    trellis: Trellis
    mixer: Mixer
    low_slots: Slots
    columns: Columns
    recent: Integers


class Row(NamedTuple):
    """The row that is being coded, as far as it is known.

    number: rows above it.
    matrix_level: level of the recent rows above it.
    column_share: share of the way that a column's means move to their next value, of 2^16.
    column: column of the index that comes next.
    scale: mean of the sizes in this row, as a scale.
    left: sign of the value on the left, -1, 0 or 1.
    total: sum of the sizes in this row.
    """

    number: int
    matrix_level: int
    column_share: int
    column: int
    scale: int
    left: int
    total: int


class Expectation(NamedTuple):
    """Contexts of one index, from all that was coded before it.

    superset: of its trellis state, 0 or 1.
    shift: number of low bits that are cut off.
    centre: the predicted index, 0 without prediction; the distance from it is what is coded.
    mean: expected value around `centre`, v/2 with SCALE_BITS fractional bits.
    sizes: the first slot of each context of its magnitude.
    tilts: the first slot of each context of its sign.
    """

    superset: int
    shift: int
    centre: int
    mean: int
    sizes: tuple[int, int, int]
    tilts: tuple[int, int, int]


def start_model(start: Start) -> ContextModel:
    """Return the model of a stream before its first row."""
    columns = start.states.size
    mixer = Mixer(
        np.full(3 * LEVELS * NODES, NEW_SLOT, np.uint32),
        np.full(3 * NODES, WEIGHT_ONE // 3, np.int64),
    )
    memory = Columns(
        np.full(columns, start.scale, np.int64),
        np.zeros(columns, np.int64),
        np.zeros(columns, np.int64),
        start.states.copy(),
    )
    low_slots = np.full(LONGEST_UNARY + 1, NEW_SLOT, np.uint32)
    return ContextModel(
        start.trellis, mixer, low_slots, memory, np.array([start.scale, 0], np.int64)
    )
