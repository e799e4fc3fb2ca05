"""Prices of indices: the tables of bits that the trellis search minimises together with the error.

The coder that follows adapts to the indices, so the tables are their own statistics: search a
sample with a first guess, count, and repeat. Weights of rows and columns with different scales get
different tables, as a context coder will tell them apart: each weight has a class, its expected
magnitude in half octaves.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

PRIOR = 8.0  # observations of the first guess: keeps values that the sample lacks affordable
CLASSES = 16
CLASSES_PER_OCTAVE = 2
_TINY = 1e-280

# Steps in standard deviations, and the λ that a sweep on Gaussian samples found best there: the
# slope of the bound, and more where the steps are so coarse that most weights become zero.
_SWEEP_STEPS = (0.48, 0.65, 0.8, 0.95, 1.1)
_SWEEP_LAMBDAS = (0.36, 0.4, 0.45, 0.5, 0.6)


def best_lambda(step: float) -> float:
    """Return the best λ, in squared steps per bit and a multiple of 1/1024.

    step: in standard deviations of the weights.

    >>> best_lambda(0.24), best_lambda(0.95)
    (0.3603515625, 0.5)
    """
    return round(1024 * float(np.interp(step, _SWEEP_STEPS, _SWEEP_LAMBDAS))) / 1024


@dataclass(frozen=True)
class Rates:
    """Prices of the indices of one matrix.

    bits: float64[G, M], bits of |n| = m with its sign, given the parity of n, in each class.
    classes: uint8[R, C], the class of each weight.
    """

    bits: Floats
    classes: npt.NDArray[np.uint8]


def scale_classes(magnitudes: Floats) -> npt.NDArray[np.uint8]:
    """Return the class of each weight, uint8[R, C] below CLASSES, from |weight|[R, C].

    It is the expected magnitude, the product of its row's and its column's mean over the mean of the
    matrix, in half octaves.
    """
    overall = magnitudes.mean()
    with np.errstate(divide="ignore", invalid="ignore"):
        rows = np.log2(magnitudes.mean(1, keepdims=True) / overall)
        columns = np.log2(magnitudes.mean(0, keepdims=True) / overall)
    ranks = np.rint(CLASSES_PER_OCTAVE * (rows + columns)) + CLASSES // 2
    return np.clip(np.nan_to_num(ranks), 0, CLASSES - 1).astype(np.uint8)


def first_guess(magnitudes: Floats, classes: npt.NDArray[np.uint8], length: int) -> Floats:
    """Return P(|n| given its parity), float64[CLASSES, length]: a two-sided geometric law each class.

    magnitudes: |weights| in steps; an empty class takes the mean of all.
    """
    counts = np.bincount(classes.ravel(), minlength=CLASSES)
    sums = np.bincount(classes.ravel(), magnitudes.ravel(), CLASSES)
    means = np.where(counts > 0, sums / np.maximum(counts, 1), magnitudes.mean())
    masses = np.exp(-np.arange(length) / np.maximum(means, 0.25)[:, None])
    masses[:, 1:] *= 2.0
    return _per_parity(np.maximum(masses, _TINY))


def counted(
    multiples: npt.NDArray[np.int32], classes: npt.NDArray[np.uint8], guess: Floats
) -> Floats:
    """Return P(|n| given its parity), float64[CLASSES, length], from counts and PRIOR times `guess`."""
    length = guess.shape[1]
    cells = length * classes.ravel().astype(np.int64) + np.abs(multiples).ravel()
    counts = np.bincount(cells, minlength=guess.size).reshape(guess.shape)
    return _per_parity(counts + PRIOR * guess)


def bits_of(shares: Floats) -> Floats:
    """Return the bits of |n| with its sign, given its parity; both signs share one entry.

    In units of 1/1024 bit: far finer than matters, and coarse enough that machines whose logarithms
    differ in the last place search with the same table.
    """
    bits = -np.log2(shares)
    bits[..., 1:] += 1.0
    return np.asarray(np.rint(1024.0 * bits) / 1024.0)


def _per_parity(masses: Floats) -> Floats:
    """Return `masses` scaled so that each row's even entries sum to 1, and its odd entries too."""
    shares = np.empty_like(masses)
    for parity in (0, 1):
        part = masses[:, parity::2]
        # math.fsum rounds once: the same table whatever numpy's order of summation.
        totals = np.array([math.fsum(row) for row in part])
        shares[:, parity::2] = part / totals[:, None]
    return shares
