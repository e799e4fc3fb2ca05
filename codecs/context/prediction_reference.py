"""The prediction of rows in plain Python: the oracle of `prediction`."""

from __future__ import annotations

import math
from collections.abc import Sequence

from squeeze.codecs.context.prediction import (
    CLIP,
    FACTOR_BITS,
    FIRST_ROWS,
    LARGEST_INNOVATION,
    UNIT_BITS,
)

Matrix = list[list[int]]


class Predictor:
    """Learner and prediction in one; see `prediction.RowPredictor`."""

    def __init__(self, columns: int) -> None:
        self.rows: Matrix = []
        self.columns = columns
        self.due = FIRST_ROWS
        self.ready = False
        self.mean = [0] * columns
        self.factor: Matrix = []

    def predict(self, c: int, missed: Sequence[int]) -> int:
        """Return the prediction of column c, given the errors in the columns before it."""
        total = sum(self.factor[c][k] * missed[k] for k in range(c))
        return max(
            -LARGEST_INNOVATION, min(self.mean[c] + (total >> FACTOR_BITS), LARGEST_INNOVATION)
        )

    def learn(self, values: Sequence[int]) -> None:
        """Learn from one row; when that is due, predict from all rows so far."""
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
                explained = sum(a * b for a, b in zip(scaled, lower[j], strict=True))
                scaled.append(correlation - (explained >> UNIT_BITS))
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
