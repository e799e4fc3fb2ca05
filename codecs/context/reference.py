"""The context coder of `context_model` in plain Python: the oracle of its kernel.

Here a context is a tuple, a slot an entry of a dictionary, and the words "zero?", "sign" and "more"
name the decisions; the kernel's index arithmetic is one way to lay them out.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from squeeze.codecs.coder.reference import Decoder, Encoder
from squeeze.codecs.context.mixing import COUNT_LIMIT, ODDS_LIMIT, SQUASH, STRETCH
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
)
from squeeze.codecs.context.prediction import CLIP, FACTOR_BITS, FIRST_ROWS, LIMIT, UNIT_BITS

Matrix = list[list[int]]
Bit = Callable[[int, int], int]  # (bit to encode, P(1) of 2^16) -> the bit coded or decoded


def level(scale: int) -> int:
    return int(LEVEL[max(0, min(scale, SCALE_LIMIT))])


def share(n: int) -> int:
    return (1 << 16) // n


class Slot:
    """P(1) with 22 bits, and the number of decisions seen."""

    def __init__(self) -> None:
        self.p, self.count = 1 << 21, 0

    def odds(self) -> int:
        return int(STRETCH[self.p >> 10])

    def move(self, bit: int) -> None:
        pace = (2 << 16) // (2 * self.count + 3)
        self.p += (((bit << 22) - self.p) >> 3) * pace >> 13
        self.p = max(0, min(self.p, (1 << 22) - 1))
        self.count = min(self.count + 1, COUNT_LIMIT)


class Decisions:
    """Mixed and plain decisions, and everything they have learnt."""

    def __init__(self, bit: Bit, first_weight: int = (1 << 16) // 3) -> None:
        self.bit = bit
        self.first_weight = first_weight
        self.slots: dict[object, Slot] = {}
        self.weights: dict[object, list[int]] = {}

    def slot(self, key: object) -> Slot:
        return self.slots.setdefault(key, Slot())

    def mixed(self, bit: int, decision: object, contexts: Sequence[object], rate: int) -> int:
        """A decision with weights of its own; equal contexts in the same place share a slot."""
        slots = [self.slot((i, context)) for i, context in enumerate(contexts)]
        weights = self.weights.setdefault(decision, [self.first_weight] * 3)
        odds = sum(w * slot.odds() for w, slot in zip(weights, slots, strict=True)) >> 16
        p1 = int(SQUASH[max(-ODDS_LIMIT, min(odds, ODDS_LIMIT - 1)) + ODDS_LIMIT])
        bit = self.bit(bit, p1)
        error = ((bit << 16) - p1) * rate
        for i, slot in enumerate(slots):
            weights[i] += (slot.odds() * error + (1 << 19)) >> 20
            slot.move(bit)
        return bit

    def plain(self, bit: int, key: object) -> int:
        slot = self.slot(key)
        bit = self.bit(bit, max(8, min(slot.p >> 6, (1 << 16) - 8)))
        slot.move(bit)
        return bit

    def even(self, bit: int) -> int:
        return self.bit(bit, 1 << 15)


class Predictor:
    """`prediction.RowPredictor` and its kernels."""

    def __init__(self, columns: int) -> None:
        self.rows: Matrix = []
        self.columns = columns
        self.due = FIRST_ROWS
        self.ready = False
        self.mean = [0] * columns
        self.factor: Matrix = []

    def predict(self, c: int, missed: Sequence[int]) -> int:
        total = sum(self.factor[c][k] * missed[k] for k in range(c))
        return max(-LIMIT, min(self.mean[c] + (total >> FACTOR_BITS), LIMIT))

    def learn(self, values: Sequence[int]) -> None:
        self.rows.append([max(-CLIP, min(v, CLIP)) for v in values])
        n = len(self.rows)
        if n < self.due:
            return
        self.due += min(n, 2 * self.columns)
        self.ready = True
        every = range(self.columns)
        sums = [sum(row[c] for row in self.rows) for c in every]
        doubled = [(s << 8) // n for s in sums]
        self.mean = [d >> 1 for d in doubled]

        def covariance(i: int, j: int) -> int:
            product = sum(row[i] * row[j] for row in self.rows)
            return ((product - (doubled[i] * sums[j] >> 8)) << 8) // n

        deviation = [math.isqrt(256 + max(0, covariance(c, c))) for c in every]
        one = 1 << UNIT_BITS
        lower: Matrix = []
        variances: list[int] = []
        for i in every:
            scaled: list[int] = []
            for j in range(i):
                correlation = covariance(i, j) * one // (deviation[i] * deviation[j])
                correlation = correlation * n // (n + 2 * self.columns)
                known = sum(a * b for a, b in zip(scaled, lower[j], strict=True))
                scaled.append(correlation - (known >> UNIT_BITS))
            row = [a * one // variance for a, variance in zip(scaled, variances, strict=True)]
            row = [max(-16 * one, min(entry, 16 * one)) for entry in row]
            missing = sum(a * b >> UNIT_BITS for a, b in zip(row, scaled, strict=True))
            lower.append(row)
            variances.append(max(one - missing, one >> 6))
        self.factor = [
            [self._in_steps(lower[i][k], deviation[i], deviation[k]) for k in range(i)]
            for i in every
        ]

    @staticmethod
    def _in_steps(entry: int, deviation: int, other: int) -> int:
        largest = (1 << 31) - 1
        scaled = entry * deviation // (other << UNIT_BITS - FACTOR_BITS)
        return max(-largest, min(scaled, largest))


def code_rows(
    matrix_: Matrix,
    scale: int,
    start: Sequence[int],
    next_states: Sequence[Sequence[int]],
    supersets: Sequence[int],
    predict: bool,
    bit: Bit,
) -> None:
    """Code the matrix through `bit`; a decoding `bit` ignores its values and fills them in."""
    decide = Decisions(bit)
    columns = len(matrix_[0])
    matrix_scale = scale
    column_scale, column_mean = [scale] * columns, [0] * columns
    above, states = [0] * columns, list(start)
    predictor = Predictor(columns) if predict else None
    for seen, row in enumerate(matrix_):
        row_scale, left, total = matrix_scale, 0, 0
        column_share = share(min(seen + 2, COLUMN_WINDOW))
        missed: list[int] = []
        values: list[int] = []
        for c in range(columns):
            superset = supersets[states[c]]
            levels = [level(column_scale[c]), level(row_scale), 0]
            levels[2] = max(levels[0] + levels[1] - level(matrix_scale), 0)
            shift = max((levels[2] >> 4) - SHORTEN_FROM, 0)
            sizes = [min(max(x - 16 * shift, 0) >> 1, LEVELS - 1) for x in levels]
            centre, mean = 0, column_mean[c]
            predicting = predictor is not None and predictor.ready
            if predictor is not None and predicting:
                mean = predictor.predict(c, missed)
                centre = (mean + 128) >> 8
                mean -= centre << 8
            tilt = max(0, min((level(abs(mean)) - levels[0] + 96) >> 2, 31))
            tilts = (
                -1 - tilt if mean < 0 else tilt,
                max(-63, min(mean >> 3, 63)),
                (left, above[c]),
            )

            index = code_index(decide, row[c] - centre, superset, shift, sizes, tilts)
            row[c] = index + centre

            values.append(2 * row[c] + superset)
            value = max(-(1 << 32), min(2 * index + superset, 1 << 32)) << 7
            size = abs(value - mean) if predicting else abs(value)
            missed.append(max(-LIMIT, min(value - mean, LIMIT)))
            total += size
            if seen == 0:
                column_scale[c] = row_scale
            column_scale[c] += (size - column_scale[c]) * column_share >> 16
            column_mean[c] += (value - column_mean[c]) * column_share >> 16
            row_scale += (size - row_scale) * share(min(c + 9, ROW_WINDOW)) >> 16
            left = above[c] = (value > 0) - (value < 0)
            states[c] = next_states[states[c]][row[c] & 1]
        if predictor is not None:
            predictor.learn(values)
        matrix_scale += (total // columns - matrix_scale) * share(min(seen + 2, ROW_WINDOW)) >> 16


def code_index(
    decide: Decisions,
    index: int,
    superset: int,
    shift: int,
    sizes: Sequence[object],
    tilts: Sequence[object],
) -> int:
    zero_first = not superset and not shift
    sign = int(index < 0)
    rest = abs(index) if zero_first else (-1 - index if sign else index)
    magnitude, tail = rest >> shift, rest & ((1 << shift) - 1)

    def mixed(bit: int, name: object, contexts: Sequence[object], rate: int) -> int:
        decision = (zero_first, name)
        return decide.mixed(bit, decision, [(decision, context) for context in contexts], rate)

    unary = 0
    if zero_first:
        unary = mixed(int(magnitude > 0), "zero?", sizes, MAGNITUDE_RATE)
    if unary or not zero_first:
        sign = mixed(sign, "sign", tilts, SIGN_RATE)
        while unary < LONGEST_UNARY:
            if not mixed(int(magnitude > unary), ("more", unary), sizes, MAGNITUDE_RATE):
                break
            unary += 1
    if unary == LONGEST_UNARY:
        more = magnitude - unary + 1
        length = 0
        while length < LONGEST_GOLOMB and decide.even(int(more >> length + 1 > 0)):
            length += 1
        read = 1
        for i in reversed(range(length)):
            read = read << 1 | decide.even(more >> i & 1)
        unary += read - 1
    rest = unary
    for i in reversed(range(shift)):
        digit = tail >> i & 1
        if i == shift - 1:
            digit = decide.plain(digit, ("low", min(unary, LONGEST_UNARY)))
        else:
            digit = decide.even(digit)
        rest = rest << 1 | digit
    if zero_first:
        return -rest if sign else rest
    return -1 - rest if sign else rest


def encode_rows(
    matrix: Matrix,
    scale: int,
    start: Sequence[int],
    next_states: Sequence[Sequence[int]],
    supersets: Sequence[int],
    predict: bool = False,
) -> bytes:
    """The stream of one band."""
    coder = Encoder()

    def bit(value: int, p1: int) -> int:
        coder.encode_bit(value, p1, 16)
        return value

    code_rows([list(row) for row in matrix], scale, start, next_states, supersets, predict, bit)
    return coder.finish()


def decode_rows(
    data: bytes,
    rows: int,
    scale: int,
    start: Sequence[int],
    next_states: Sequence[Sequence[int]],
    supersets: Sequence[int],
    predict: bool = False,
) -> Matrix:
    """Mirror of `encode_rows`, without the check of the end."""
    coder = Decoder(data)
    matrix = [[0] * len(start) for _ in range(rows)]

    def bit(value: int, p1: int) -> int:
        return coder.decode_bit(p1, 16)

    code_rows(matrix, scale, start, next_states, supersets, predict, bit)
    return matrix
