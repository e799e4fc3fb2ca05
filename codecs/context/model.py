"""What a matrix of weight indices looks like to the coder: the compiled kernel of `context`.

Row by row, each index is a few binary decisions: sign, and magnitude in unary. Their probabilities
depend on how large the index should be, and three estimates of that are mixed: the mean magnitude
of its column so far, of its row so far, and their product over the mean of the matrix. What else
was tried, and what each context buys in bytes, stands in docs/log.md.

Units. A weight's value is v = 2·index + superset in half steps: the superset, 0 or 1, comes from
the trellis state of the column, and is 0 for scalar quantization. A *scale* is a mean of |v|/2 with
8 fractional bits. A *level* is its logarithm, 16 to the octave, from 2^-6 on.

Decisions. At even v symmetric around zero (superset 0) the first decision is "zero?", then the
sign, then the magnitude. Odd v has no zero: the sign comes first. Where the scale is 8 or more, the
last bits are cut off and coded after the rest, so that the unary part stays short; the sign comes
first there too.
"""

# numba types the scalars of kernels, as int64 or uint64; to mypy each would be a third type.
# mypy: disable-error-code="assignment, arg-type, return-value, operator"
from __future__ import annotations

import numpy as np
import numpy.typing as npt

from squeeze.codecs.coder.rangecoder import State, Words
from squeeze.codecs.context.mixing import NEW_SLOT, WEIGHT_ONE, code_bit, code_mixed_, code_slot_
from squeeze.codecs.context.prediction import LIMIT, predicted
from squeeze.codecs.jit import njit

SCALE_BITS = 8
SCALE_LIMIT = (1 << 16) - 1
LEVELS_PER_OCTAVE = 16
LEVELS = 128  # of a context: half as many to the octave as levels proper
NODES = 64  # decisions with statistics of their own: 32 for zero first, 32 for sign first
ZERO_FIRST, SIGN_FIRST = 0, 32
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


class Model:
    """All that adapts, for one stream; the kernel works on these arrays."""

    def __init__(self, columns: int, scale: int) -> None:
        self.slots = np.full(3 * LEVELS * NODES, NEW_SLOT, np.uint32)
        self.low_slots = np.full(LONGEST_UNARY + 1, NEW_SLOT, np.uint32)
        self.weights = np.full(3 * NODES, WEIGHT_ONE // 3, np.int64)
        self.column_scale = np.full(columns, scale, np.int64)
        self.column_mean = np.zeros(columns, np.int64)  # of v/2, SCALE_BITS fractional bits
        self.above = np.zeros(columns, np.int64)  # sign of the value above: -1, 0, 1
        self.states = np.zeros(columns, np.int64)  # of the trellis
        self.matrix = np.array([scale, 0], np.int64)  # scale of the recent rows, rows seen


@njit(nogil=True)
def _level(scale: int) -> int:
    return np.int64(LEVEL[min(max(scale, 0), SCALE_LIMIT)])


@njit(nogil=True)
def _clip(x: int, lowest: int, highest: int) -> int:
    return min(max(x, lowest), highest)


@njit(nogil=True)
def code_rows_(
    indices_: npt.NDArray[np.int64],
    encoding: bool,
    next_states: npt.NDArray[np.uint8],
    supersets: npt.NDArray[np.uint8],
    slots_: npt.NDArray[np.uint32],
    low_slots_: npt.NDArray[np.uint32],
    weights_: npt.NDArray[np.int64],
    column_scale_: npt.NDArray[np.int64],
    column_mean_: npt.NDArray[np.int64],
    above_: npt.NDArray[np.int64],
    states_: npt.NDArray[np.int64],
    matrix_: npt.NDArray[np.int64],
    factor: npt.NDArray[np.int32],
    row_mean: npt.NDArray[np.int64],
    innovation_: npt.NDArray[np.int32],
    coder_: State,
    words_: Words,
) -> None:
    """Encode int64[rows, columns], or decode into it; all else is the state of the stream.

    When decoding, `words_` is only read, and rows after its end are left as they are.
    """
    low, span, n = coder_[0], coder_[1], np.int64(coder_[2])
    rows, columns = indices_.shape
    predicting = factor.size > 0
    second, third = LEVELS * NODES, 2 * LEVELS * NODES
    for r in range(rows):
        if not encoding and n > words_.size + 2:
            break
        matrix_scale, seen = matrix_[0], matrix_[1]
        column_share = SHARE[min(seen + 2, COLUMN_WINDOW)]
        row_scale = matrix_scale
        matrix_level = _level(matrix_scale)
        left = 0
        row_total = 0
        for c in range(columns):
            superset = np.int64(supersets[states_[c]])
            # How large?
            column_level, row_level = _level(column_scale_[c]), _level(row_scale)
            both_level = max(column_level + row_level - matrix_level, 0)
            shift = max((both_level >> 4) - SHORTEN_FROM, 0)
            a = min(max(column_level - (shift << 4), 0) >> 1, LEVELS - 1) * NODES
            b = min(max(row_level - (shift << 4), 0) >> 1, LEVELS - 1) * NODES + second
            d = min(max(both_level - (shift << 4), 0) >> 1, LEVELS - 1) * NODES + third
            # Around what? Without prediction, zero.
            centre = np.int64(0)
            mean = column_mean_[c]
            if predicting:
                mean = predicted(factor, row_mean, innovation_, c)
                centre = (mean + (1 << SCALE_BITS - 1)) >> SCALE_BITS
                mean -= centre << SCALE_BITS
            # Which sign? The mean in the scale of the column, in steps, and the neighbours.
            tilt = _clip((_level(abs(mean)) - column_level + 96) >> 2, 0, 31)
            if mean < 0:
                tilt = -1 - tilt
            sign_a = (tilt + 32) * NODES
            sign_b = (_clip(mean >> 3, -63, 63) + 64) * NODES + second
            sign_d = (left + 1 + 3 * (above_[c] + 1)) * NODES + third

            index = indices_[r, c] - centre
            sign, rest = 0, 0
            first = ZERO_FIRST
            if superset or shift:
                first = SIGN_FIRST
                if index < 0:
                    sign, rest = 1, -1 - index
                else:
                    rest = index
            elif index < 0:
                sign, rest = 1, -index
            else:
                rest = index

            magnitude = rest >> shift
            unary = 0
            node = first
            bit = 1
            if first == ZERO_FIRST:
                bit, low, span, n = code_mixed_(
                    np.int64(magnitude > 0), slots_, a, b, d, weights_, 0, MAGNITUDE_RATE,
                    encoding, low, span, words_, n,
                )  # fmt: skip
                unary = bit
                node = 1
            if bit:
                sign, low, span, n = code_mixed_(
                    sign, slots_, sign_a + node, sign_b + node, sign_d + node, weights_, 3 * node,
                    SIGN_RATE, encoding, low, span, words_, n,
                )  # fmt: skip
            while bit and unary < LONGEST_UNARY:
                node += 1
                bit, low, span, n = code_mixed_(
                    np.int64(magnitude > unary), slots_, a + node, b + node, d + node,
                    weights_, 3 * node, MAGNITUDE_RATE, encoding, low, span, words_, n,
                )  # fmt: skip
                unary += bit
            if unary == LONGEST_UNARY:
                # Exp-Golomb: the number of bits of what is left plus one, then those bits.
                more = magnitude - unary + 1
                length = 0
                while length < LONGEST_GOLOMB:
                    bit, low, span, n = code_bit(
                        np.int64(more >> (length + 1) > 0), 1 << 15, encoding, low, span, words_, n
                    )
                    if not bit:
                        break
                    length += 1
                read = 1
                for i in range(length - 1, -1, -1):
                    bit, low, span, n = code_bit(
                        (more >> i) & 1, 1 << 15, encoding, low, span, words_, n
                    )
                    read = read << 1 | bit
                unary += read - 1
            magnitude = unary
            tail = rest & ((1 << shift) - 1)
            if shift:
                bit, low, span, n = code_slot_(
                    tail >> (shift - 1), low_slots_, min(magnitude, LONGEST_UNARY),
                    encoding, low, span, words_, n,
                )  # fmt: skip
                read = bit
                for i in range(shift - 2, -1, -1):
                    bit, low, span, n = code_bit(
                        (tail >> i) & 1, 1 << 15, encoding, low, span, words_, n
                    )
                    read = read << 1 | bit
                rest = magnitude << shift | read
            else:
                rest = magnitude

            index = rest
            if sign:
                index = -1 - rest if first == SIGN_FIRST else -rest
            if not encoding:
                indices_[r, c] = index + centre
            # Learn.
            value = 2 * index + superset
            value = min(max(value, -(1 << 32)), 1 << 32) << (SCALE_BITS - 1)
            size = abs(value)
            if predicting:
                missed = value - mean
                size = abs(missed)
                innovation_[c] = min(max(missed, -LIMIT), LIMIT)
            row_total += size
            if seen == 0:
                column_scale_[c] = row_scale
            column_scale_[c] += (size - column_scale_[c]) * column_share >> 16
            column_mean_[c] += (value - column_mean_[c]) * column_share >> 16
            row_scale += (size - row_scale) * SHARE[min(c + 9, ROW_WINDOW)] >> 16
            left = np.int64(value > 0) - np.int64(value < 0)
            above_[c] = left
            states_[c] = next_states[states_[c], (index + centre) & 1]
        matrix_[1] = seen + 1
        matrix_[0] += (row_total // columns - matrix_scale) * SHARE[min(seen + 2, ROW_WINDOW)] >> 16
    coder_[0], coder_[1], coder_[2] = low, span, np.uint64(n)
