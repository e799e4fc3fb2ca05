"""The context coder in plain Python: the oracle of `kernel`, with the same steps by the same names.

Here a context is a tuple, a slot an entry of a dictionary, and the words "zero?", "sign" and "more"
name the decisions; the kernel's index arithmetic is one way to lay them out.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from squeeze.codecs.coder.reference import Decoder, Encoder
from squeeze.codecs.context.mixing_reference import Bit, Decisions, decoding, encoding
from squeeze.codecs.context.model import (
    COLUMN_WINDOW,
    LEVEL,
    LEVELS,
    LONGEST_GOLOMB,
    LONGEST_UNARY,
    MAGNITUDE_RATE,
    ROW_WINDOW,
    SCALE_LIMIT,
    SHORTEN_FROM,
    SIGN_RATE,
    Expectation,
    Start,
)
from squeeze.codecs.context.prediction import LARGEST_INNOVATION
from squeeze.codecs.context.prediction_reference import Matrix, Predictor


@dataclass
class Row:
    """The row that is being coded, as far as it is known; see `model.Row`."""

    number: int
    matrix_scale: int
    scale: int
    column: int = 0
    left: int = 0
    total: int = 0
    values: list[int] = field(default_factory=list)
    missed: list[int] = field(default_factory=list)


class ContextModel:
    """All that adapts while one stream is coded; see `model.ContextModel`."""

    def __init__(self, start: Start, bit: Bit) -> None:
        columns = len(start.states)
        self.next_states: Matrix = start.trellis.next_states.tolist()
        self.supersets: list[int] = start.trellis.supersets.tolist()
        self.decide = Decisions(bit)
        self.column_scale = [start.scale] * columns
        self.column_mean = [0] * columns
        self.above = [0] * columns
        self.states: list[int] = start.states.tolist()
        self.matrix_scale = start.scale
        self.predictor = Predictor(columns) if start.predict else None

    @property
    def predicting(self) -> Predictor | None:
        """The predictor, once it has seen enough rows."""
        return self.predictor if self.predictor is not None and self.predictor.ready else None


def level(scale: int) -> int:
    """Return the logarithm of a scale, 16 to the octave."""
    return int(LEVEL[max(0, min(scale, SCALE_LIMIT))])


def share(count: int) -> int:
    """Return the share of 2^16 that one of `count` values has in their mean."""
    return (1 << 16) // count


def code_rows(matrix_: Matrix, start: Start, bit: Bit) -> None:
    """Code the matrix through `bit`; a decoding `bit` ignores its values and fills them in."""
    model = ContextModel(start, bit)
    for number, indices in enumerate(matrix_):
        row = Row(number, model.matrix_scale, model.matrix_scale)
        for c, index in enumerate(indices):
            expected = expect(model, row)
            distance = code_index(model.decide, index - expected.centre, expected)
            indices[c] = distance + expected.centre
            learn(model, row, expected, distance)
        if model.predictor is not None:
            model.predictor.learn(row.values)
        mean = row.total // len(indices)
        model.matrix_scale += (mean - model.matrix_scale) * share(min(number + 2, ROW_WINDOW)) >> 16


def expect(model: ContextModel, row: Row) -> Expectation:
    """Return the contexts of the row's next index."""
    c = row.column
    column_level, row_level = level(model.column_scale[c]), level(row.scale)
    both_level = max(column_level + row_level - level(row.matrix_scale), 0)
    shift = max((both_level >> 4) - SHORTEN_FROM, 0)

    def cut(level: int) -> int:
        return min(max(level - 16 * shift, 0) >> 1, LEVELS - 1)

    sizes = cut(column_level), cut(row_level), cut(both_level)
    centre, mean = 0, model.column_mean[c]
    if model.predicting is not None:
        mean = model.predicting.predict(c, row.missed)
        centre = (mean + 128) >> 8
        mean -= centre << 8
    tilt = max(0, min((level(abs(mean)) - column_level + 96) >> 2, 31))
    tilts = (
        -1 - tilt if mean < 0 else tilt,
        max(-63, min(mean >> 3, 63)),
        row.left + 3 * model.above[c],
    )
    superset = model.supersets[model.states[c]]
    return Expectation(superset, shift, centre, mean, sizes, tilts)


def code_index(decide: Decisions, distance: int, expected: Expectation) -> int:
    """Code an index's distance from its centre; return the distance coded or decoded."""
    shift = expected.shift
    zero_first = not expected.superset and not shift
    sign = int(distance < 0)
    size = abs(distance) if zero_first else (-1 - distance if sign else distance)
    magnitude = size >> shift

    def mixed(bit: int, name: object, contexts: tuple[int, ...], rate: int) -> int:
        decision = (zero_first, name)
        return decide.mixed(bit, decision, [(decision, context) for context in contexts], rate)

    unary = 0
    if zero_first:
        unary = mixed(int(magnitude > 0), "zero?", expected.sizes, MAGNITUDE_RATE)
    if unary or not zero_first:
        sign = mixed(sign, "sign", expected.tilts, SIGN_RATE)
        while unary < LONGEST_UNARY:
            more = int(magnitude > unary)
            if not mixed(more, ("more", unary), expected.sizes, MAGNITUDE_RATE):
                break
            unary += 1
    if unary == LONGEST_UNARY:
        unary += code_golomb(decide, magnitude - unary)
    size = code_low_bits(decide, size, shift, unary)
    if zero_first:
        return -size if sign else size
    return -1 - size if sign else size


def code_golomb(decide: Decisions, number: int) -> int:
    """Code a number ≥ 0 as Exp-Golomb: the bits of number + 1 below its highest, after their count."""
    more = number + 1
    length = 0
    while length < LONGEST_GOLOMB and decide.even(int(more >> length + 1 > 0)):
        length += 1
    coded = 1
    for i in reversed(range(length)):
        coded = coded << 1 | decide.even(more >> i & 1)
    return coded - 1


def code_low_bits(decide: Decisions, size: int, shift: int, magnitude: int) -> int:
    """Code the low `shift` bits of `size`; return them under the magnitude, which is coded already."""
    coded = magnitude
    for i in reversed(range(shift)):
        digit = size >> i & 1
        if i == shift - 1:
            digit = decide.plain(digit, ("low", min(magnitude, LONGEST_UNARY)))
        else:
            digit = decide.even(digit)
        coded = coded << 1 | digit
    return coded


def learn(model: ContextModel, row: Row, expected: Expectation, distance: int) -> None:
    """Adapt the model and the row to an index, given its distance from the expected centre."""
    c, index = row.column, distance + expected.centre
    value = max(-(1 << 32), min(2 * distance + expected.superset, 1 << 32)) << 7
    missed = value - expected.mean
    size = abs(value) if model.predicting is None else abs(missed)
    row.values.append(2 * index + expected.superset)
    row.missed.append(max(-LARGEST_INNOVATION, min(missed, LARGEST_INNOVATION)))
    if row.number == 0:
        model.column_scale[c] = row.scale
    column_share = share(min(row.number + 2, COLUMN_WINDOW))
    model.column_scale[c] += (size - model.column_scale[c]) * column_share >> 16
    model.column_mean[c] += (value - model.column_mean[c]) * column_share >> 16
    model.above[c] = row.left = (value > 0) - (value < 0)
    model.states[c] = model.next_states[model.states[c]][index & 1]
    row.scale += (size - row.scale) * share(min(c + 9, ROW_WINDOW)) >> 16
    row.total += size
    row.column += 1


def encode_rows(matrix: Matrix, start: Start) -> bytes:
    """Return the stream of one band, as `codec.encode_rows` writes it."""
    coder = Encoder()
    code_rows([list(row) for row in matrix], start, encoding(coder))
    return coder.finish()


def decode_rows(data: bytes, rows: int, start: Start) -> Matrix:
    """Mirror `encode_rows`, without the check of the end."""
    matrix = [[0] * len(start.states) for _ in range(rows)]
    code_rows(matrix, start, decoding(Decoder(data)))
    return matrix
