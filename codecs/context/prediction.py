"""Prediction of a weight from the weights before it in its row, for rows that resemble each other.

Embedding rows do: their columns are correlated, so that the best linear prediction of a column from
the columns before it takes a fifth of the variance away in a trained table of 8,192 rows. The
covariance of the rows coded so far gives that prediction and costs nothing to transmit.

Method. With the covariance factored as L·D·Lᵀ, L unit lower triangular, a row x is L·z for
uncorrelated innovations z, so column c is predicted by the sum over k < c of L[c, k]·z[k], and z[c]
is the error of that prediction. Off-diagonal covariances are shrunk by n / (n + 2·columns) after n
rows, the best of the factors tried (docs/log.md).

Integers throughout, so that every machine predicts the same.
"""

# numba types the scalars of kernels, as int64 or uint64; to mypy each would be a third type.
# mypy: disable-error-code="assignment, arg-type, return-value, operator"
from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from squeeze.codecs.jit import njit

MAX_COLUMNS = 1024  # factoring takes columns³ / 6 steps
FIRST_ROWS = 32
CLIP = 1 << 12  # of values when learning: the squares of 2^22 rows add up below 2^47
UNIT_BITS = 20  # fractional bits of correlations and of L in their scale
FACTOR_BITS = 16  # of L in the scale of the columns
MEAN_BITS = 8  # of means, innovations and predictions, which are in steps: half a value
SAMPLE_ROWS, SAMPLE_COLUMNS = 64, 256
LEAST_GAIN = 0.01  # bits a weight, on the sample, for a trial encoding
LARGEST_INNOVATION = 1 << 20  # and the largest prediction
_LEAST_VARIANCE = 1 << UNIT_BITS - 6
_LARGEST_FACTOR = (1 << 31) - 1


class Prediction(NamedTuple):
    """The prediction of a row's columns, each from the columns before it.

    factor: int32[columns, columns], L below the diagonal with FACTOR_BITS fractional bits; [0, 0]
    while there is no prediction.
    mean: int64[columns], mean of each column in steps, MEAN_BITS fractional bits.
    innovation: int32[columns], errors of the predictions in the row that is being coded, in steps,
    MEAN_BITS fractional bits.
    """

    factor: npt.NDArray[np.int32]
    mean: npt.NDArray[np.int64]
    innovation: npt.NDArray[np.int32]


class RowPredictor:
    """Learner of a `Prediction` from rows of values (2·index + superset), as they are coded.

    columns: number of columns.
    enabled: False where nothing is ever predicted.
    first_rows: number of rows before the first prediction.
    """

    def __init__(self, columns: int, enabled: bool, first_rows: int = FIRST_ROWS) -> None:
        self.prediction = Prediction(
            np.zeros((0, 0), np.int32), np.zeros(columns, np.int64), np.zeros(columns, np.int32)
        )
        self.rows = 0
        self._enabled = enabled
        if enabled:
            self._sums = np.zeros(columns, np.int64)
            self._products = np.zeros((columns, columns), np.int64)  # below the diagonal
            self._due = first_rows

    def rows_until_due(self, rows: int) -> int:
        """Return the number of the next `rows` that may be coded before `learn` must see them."""
        return min(rows, self._due - self.rows) if self._enabled else rows

    def learn(self, values: npt.NDArray[np.int64]) -> None:
        """Learn from rows int64[n, columns]; when that is due, predict from all rows so far."""
        if not self._enabled:
            return
        columns = np.ascontiguousarray(np.clip(values, -CLIP, CLIP).astype(np.int32).T)
        add_products_(self._products, columns)
        self._sums += columns.sum(axis=1, dtype=np.int64)
        self.rows += len(values)
        if self.rows == self._due:
            self.refresh()
            self._due += min(self.rows, 2 * self._sums.size)

    def refresh(self) -> None:
        """Factor the covariance of the rows so far."""
        n, columns = self.rows, self._sums.size
        doubled = (self._sums << MEAN_BITS) // n  # a value is half a step
        lower = self._products.copy()
        deviation = np.empty(columns, np.int64)
        correlate_(lower, self._sums, doubled, deviation, n)
        factor_(lower)
        factor = np.zeros((columns, columns), np.int32)
        rescale_(factor, lower, deviation)
        self.prediction = Prediction(factor, doubled >> 1, self.prediction.innovation)


@njit(nogil=True)
def add_products_(products_: npt.NDArray[np.int64], columns: npt.NDArray[np.int32]) -> None:
    """Add the inner products of int32[n, rows] columns to the lower triangle of int64[n, n]."""
    n, rows = columns.shape
    for i in range(n):
        for j in range(i + 1):
            total = np.int64(0)
            for r in range(rows):
                total += np.int64(columns[i, r]) * np.int64(columns[j, r])
            products_[i, j] += total


@njit(nogil=True)
def root(square: int) -> int:
    """Return floor(√square) for 0 ≤ square < 2^46, by Newton's method from above."""
    guess = np.int64(1) << 23
    while guess * guess > square:
        guess = (guess + square // guess) >> 1
    return guess


@njit(nogil=True)
def correlate_(
    products_: npt.NDArray[np.int64],
    sums: npt.NDArray[np.int64],
    doubled: npt.NDArray[np.int64],
    deviation_: npt.NDArray[np.int64],
    n: int,
) -> None:
    """Overwrite the lower triangle of n rows' products with shrunk correlations, UNIT_BITS.

    products_: int64[columns, columns], sums of products of values.
    sums: int64[columns], of the values.
    doubled: int64[columns], mean of the values, MEAN_BITS fractional bits.
    deviation_: int64[columns], filled with the standard deviations of values, 4 fractional bits, at
    least 1.
    n: number of rows.
    """
    a, columns = products_, products_.shape[0]
    for i in range(columns):
        variance = ((a[i, i] - (doubled[i] * sums[i] >> MEAN_BITS)) << 8) // n
        deviation_[i] = root(256 + max(variance, 0))
        a[i, i] = np.int64(1) << UNIT_BITS
        for j in range(i):
            covariance = ((a[i, j] - (doubled[i] * sums[j] >> MEAN_BITS)) << 8) // n
            correlation = (covariance << UNIT_BITS) // (deviation_[i] * deviation_[j])
            a[i, j] = correlation * n // (n + 2 * columns)


@njit(nogil=True)
def rescale_(
    factor_: npt.NDArray[np.int32], lower: npt.NDArray[np.int64], deviation: npt.NDArray[np.int64]
) -> None:
    """Fill int32[n, n] below its diagonal with L in the scale of the columns, FACTOR_BITS.

    lower: int64[n, n], L below its diagonal, UNIT_BITS.
    deviation: int64[n], standard deviation of each column.
    """
    for i in range(lower.shape[0]):
        for j in range(i):
            entry = lower[i, j] * deviation[i] // (deviation[j] << UNIT_BITS - FACTOR_BITS)
            factor_[i, j] = min(max(entry, -_LARGEST_FACTOR), _LARGEST_FACTOR)


@njit(nogil=True)
def factor_(a_: npt.NDArray[np.int64]) -> None:
    """Overwrite the lower triangle of int64[n, n] with L of L·D·Lᵀ; UNIT_BITS fractional bits.

    The diagonal, 1 in L, is left at D; above it nothing is changed or used.
    """
    a, n = a_, a_.shape[0]
    scaled = np.empty(n, np.int64)  # L[i, k]·D[k]
    for i in range(n):
        for j in range(i):
            total = np.int64(0)
            for k in range(j):
                total += scaled[k] * a[j, k]
            scaled[j] = a[i, j] - (total >> UNIT_BITS)
        variance = a[i, i]
        for j in range(i):
            entry = (scaled[j] << UNIT_BITS) // a[j, j]
            entry = min(max(entry, -(1 << UNIT_BITS + 4)), 1 << UNIT_BITS + 4)
            a[i, j] = entry
            variance -= entry * scaled[j] >> UNIT_BITS
        a[i, i] = max(variance, _LEAST_VARIANCE)


@njit(nogil=True, _nrt=False)
def predicted(prediction: Prediction, c: int) -> int:
    """Return the prediction of column c in steps, MEAN_BITS, within ±LARGEST_INNOVATION."""
    total = np.int64(0)
    row, innovation = prediction.factor[c], prediction.innovation
    for k in range(c):
        total += np.int64(row[k]) * np.int64(innovation[k])
    step = prediction.mean[c] + (total >> FACTOR_BITS)
    return min(max(step, -LARGEST_INNOVATION), LARGEST_INNOVATION)


@njit(nogil=True)
def innovations(values: npt.NDArray[np.int64], prediction: Prediction) -> npt.NDArray[np.int32]:
    """Return the errors of predicting int64[n, columns] values: int32[n, columns] steps, MEAN_BITS."""
    missed = np.zeros(values.shape, np.int32)
    for r in range(values.shape[0]):
        for c in range(values.shape[1]):
            row = Prediction(prediction.factor, prediction.mean, missed[r])
            step = (values[r, c] << MEAN_BITS - 1) - predicted(row, c)
            missed[r, c] = min(max(step, -LARGEST_INNOVATION), LARGEST_INNOVATION)
    return missed


def is_promising(indices: npt.NDArray[Any]) -> bool:
    """Return True where the first rows of integers [n, columns] predict a sample of the rest.

    Only some columns are looked at, or looking would take as long as coding.
    """
    rows, columns = indices.shape
    if columns > MAX_COLUMNS or rows < 4 * FIRST_ROWS:
        return False
    values = 2 * indices[:, :SAMPLE_COLUMNS].astype(np.int64)
    columns = values.shape[1]
    first = min(rows // 2, 2 * columns)
    predictor = RowPredictor(columns, enabled=True, first_rows=first)
    predictor.learn(values[:first])
    sample = np.clip(values[first :: 1 + (rows - first) // SAMPLE_ROWS], -CLIP, CLIP)
    missed = innovations(sample, predictor.prediction)
    plain = (sample << MEAN_BITS - 1) - predictor.prediction.mean
    rounding = 1 << 2 * MEAN_BITS - 4  # about the variance of rounding to a step
    before = np.log2((plain.astype(np.float64) ** 2).mean(axis=0) + rounding)
    after = np.log2((missed.astype(np.float64) ** 2).mean(axis=0) + rounding)
    return bool((before - after).mean() > 2 * LEAST_GAIN)
