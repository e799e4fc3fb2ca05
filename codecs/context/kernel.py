"""The compiled kernel of the context coder: rows of indices through the range coder.

Each index goes through three steps, which `reference` mirrors under the same names: `expect`
chooses its contexts, `code_index_` codes it, `learn_` adapts the model to it.
"""

# numba types the scalars of kernels, as int64 or uint64; to mypy each would be a third type.
# mypy: disable-error-code="assignment, arg-type, return-value, operator"
from __future__ import annotations

import numpy as np

from squeeze.codecs.coder.rangecoder import Coder, Interval, load, store_
from squeeze.codecs.context.mixing import (
    EVEN_ODDS,
    Decision,
    code_bit,
    code_mixed_,
    code_slot_,
)
from squeeze.codecs.context.model import (
    COLUMN_WINDOW,
    LEVEL,
    LEVELS,
    LONGEST_GOLOMB,
    LONGEST_UNARY,
    MAGNITUDE_RATE,
    NODES,
    ROW_WINDOW,
    SCALE_BITS,
    SCALE_LIMIT,
    SECOND,
    SHARE,
    SHORTEN_FROM,
    SIGN_FIRST,
    SIGN_RATE,
    THIRD,
    ZERO_FIRST,
    ContextModel,
    Expectation,
    Integers,
    Row,
)
from squeeze.codecs.context.prediction import LARGEST_INNOVATION, Prediction, predicted
from squeeze.codecs.jit import njit


@njit(nogil=True, _nrt=False)
def code_rows_(
    indices_: Integers, model_: ContextModel, prediction_: Prediction, coder_: Coder
) -> None:
    """Encode int64[rows, columns] indices, or decode into them.

    When decoding, rows after the end of the words are left as they are.
    """
    interval = load(coder_.state)
    recent_ = model_.recent
    rows, columns = indices_.shape
    for r in range(rows):
        if not coder_.encoding and interval.n > coder_.words.size + 2:
            break
        scale, number = recent_[0], recent_[1]
        share = SHARE[min(number + 2, COLUMN_WINDOW)]
        row = Row(number, _level(scale), share, np.int64(0), scale, np.int64(0), np.int64(0))
        for c in range(columns):
            expected = expect(model_, prediction_, row)
            distance, interval = code_index_(
                indices_[r, c] - expected.centre, expected, model_, coder_, interval
            )
            if not coder_.encoding:
                indices_[r, c] = distance + expected.centre
            row = learn_(model_, prediction_, row, expected, distance)
        recent_[1] = number + 1
        recent_[0] += (row.total // columns - scale) * SHARE[min(number + 2, ROW_WINDOW)] >> 16
    store_(coder_.state, interval)


@njit(nogil=True, _nrt=False, forceinline=True)
def expect(model: ContextModel, prediction: Prediction, row: Row) -> Expectation:
    """Return the contexts of the row's next index."""
    c, columns = row.column, model.columns
    superset = np.int64(model.trellis.supersets[columns.states[c]])
    column_level, row_level = _level(columns.scale[c]), _level(row.scale)
    both_level = max(column_level + row_level - row.matrix_level, 0)
    shift = max((both_level >> 4) - SHORTEN_FROM, 0)
    sizes = (
        _slot(column_level, shift),
        _slot(row_level, shift) + SECOND,
        _slot(both_level, shift) + THIRD,
    )
    centre = np.int64(0)
    mean = columns.mean[c]
    if prediction.factor.size > 0:
        mean = predicted(prediction, c)
        centre = (mean + (1 << SCALE_BITS - 1)) >> SCALE_BITS
        mean -= centre << SCALE_BITS
    # The mean in the scale of the column, then in steps, then the neighbours' signs.
    tilt = _clip((_level(abs(mean)) - column_level + 96) >> 2, 0, 31)
    if mean < 0:
        tilt = -1 - tilt
    tilts = (
        (tilt + 32) * NODES,
        (_clip(mean >> 3, -63, 63) + 64) * NODES + SECOND,
        (row.left + 1 + 3 * (columns.above[c] + 1)) * NODES + THIRD,
    )
    return Expectation(superset, shift, centre, mean, sizes, tilts)


@njit(nogil=True, _nrt=False, forceinline=True)
def code_index_(
    distance: int, expected: Expectation, model_: ContextModel, coder: Coder, interval: Interval
) -> tuple[int, Interval]:
    """Encode an index's distance from its centre, or decode one and ignore `distance`.

    Returns the distance and the interval that is left.
    """
    mixer_, shift = model_.mixer, expected.shift
    sign, size = 0, distance
    first = ZERO_FIRST
    if expected.superset or shift:
        first = SIGN_FIRST
        if distance < 0:
            sign, size = 1, -1 - distance
    elif distance < 0:
        sign, size = 1, -distance

    magnitude = size >> shift
    unary = 0
    node = first
    bit = 1
    if first == ZERO_FIRST:
        decision = _decision(expected.sizes, node, MAGNITUDE_RATE)
        bit, interval = code_mixed_(np.int64(magnitude > 0), decision, mixer_, coder, interval)
        unary = bit
        node = 1
    if bit:
        decision = _decision(expected.tilts, node, SIGN_RATE)
        sign, interval = code_mixed_(sign, decision, mixer_, coder, interval)
    while bit and unary < LONGEST_UNARY:
        node += 1
        decision = _decision(expected.sizes, node, MAGNITUDE_RATE)
        bit, interval = code_mixed_(np.int64(magnitude > unary), decision, mixer_, coder, interval)
        unary += bit
    if unary == LONGEST_UNARY:
        excess, interval = _code_golomb(magnitude - unary, coder, interval)
        unary += excess
    low = size & ((1 << shift) - 1)
    size = unary
    if shift:
        slot = min(unary, LONGEST_UNARY)
        bit, interval = code_slot_(low >> (shift - 1), model_.low_slots, slot, coder, interval)
        low, interval = _code_plain(low, shift - 1, coder, interval)
        size = (size << 1 | bit) << (shift - 1) | low
    if sign:
        size = -1 - size if first == SIGN_FIRST else -size
    return size, interval


@njit(nogil=True, _nrt=False, forceinline=True)
def learn_(
    model_: ContextModel, prediction_: Prediction, row: Row, expected: Expectation, distance: int
) -> Row:
    """Adapt to an index, given its distance from the expected centre; return the row after it."""
    c, columns_ = row.column, model_.columns
    value = 2 * distance + expected.superset
    value = min(max(value, -(1 << 32)), 1 << 32) << (SCALE_BITS - 1)
    size = abs(value)
    if prediction_.factor.size > 0:
        missed = value - expected.mean
        size = abs(missed)
        prediction_.innovation[c] = min(max(missed, -LARGEST_INNOVATION), LARGEST_INNOVATION)
    if row.number == 0:
        columns_.scale[c] = row.scale
    columns_.scale[c] += (size - columns_.scale[c]) * row.column_share >> 16
    columns_.mean[c] += (value - columns_.mean[c]) * row.column_share >> 16
    sign = np.int64(value > 0) - np.int64(value < 0)
    columns_.above[c] = sign
    parity = (distance + expected.centre) & 1
    columns_.states[c] = model_.trellis.next_states[columns_.states[c], parity]
    scale = row.scale + ((size - row.scale) * SHARE[min(c + 9, ROW_WINDOW)] >> 16)
    total = row.total + size
    return Row(row.number, row.matrix_level, row.column_share, c + 1, scale, sign, total)


@njit(nogil=True, _nrt=False)
def _level(scale: int) -> int:
    return np.int64(LEVEL[min(max(scale, 0), SCALE_LIMIT)])


@njit(nogil=True, _nrt=False)
def _clip(x: int, lowest: int, highest: int) -> int:
    return min(max(x, lowest), highest)


@njit(nogil=True, _nrt=False)
def _slot(level: int, shift: int) -> int:
    """Return a context's first slot for a level, less the octaves of the low bits."""
    return min(max(level - (shift << 4), 0) >> 1, LEVELS - 1) * NODES


@njit(nogil=True, _nrt=False, forceinline=True)
def _decision(slots: tuple[int, int, int], node: int, rate: int) -> Decision:
    """Return the statistics of a node under contexts whose first slots are `slots`."""
    return Decision(slots[0] + node, slots[1] + node, slots[2] + node, 3 * node, rate)


@njit(nogil=True, _nrt=False, forceinline=True)
def _code_golomb(number: int, coder: Coder, interval: Interval) -> tuple[int, Interval]:
    """Code a number ≥ 0 as Exp-Golomb: the bits of number + 1 below its highest, after their count."""
    more = number + 1
    length = 0
    while length < LONGEST_GOLOMB:
        bit, interval = code_bit(np.int64(more >> (length + 1) > 0), EVEN_ODDS, coder, interval)
        if not bit:
            break
        length += 1
    below, interval = _code_plain(more, length, coder, interval)
    return (1 << length | below) - 1, interval


@njit(nogil=True, _nrt=False, forceinline=True)
def _code_plain(number: int, count: int, coder: Coder, interval: Interval) -> tuple[int, Interval]:
    """Code the low `count` bits of a number, highest first, at one bit each."""
    coded = np.int64(0)
    for i in range(count - 1, -1, -1):
        bit, interval = code_bit((number >> i) & 1, EVEN_ODDS, coder, interval)
        coded = coded << 1 | bit
    return coded, interval
