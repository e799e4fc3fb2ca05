"""What an index costs: the table of bits the trellis search minimises with the error.

The coder that follows adapts to the indices, so the table is their own statistics: search a sample
with a first guess, count, and repeat. A prior worth `PRIOR` observations keeps values that the
sample lacks finitely expensive, and small tensors sane.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

PRIOR = 8.0
_TINY = 1e-280


def _per_superset(masses: Floats) -> Floats:
    """`masses` scaled so that the even and the odd entries each sum to 1."""
    shares = np.empty_like(masses)
    for parity in (0, 1):
        part = masses[parity::2]
        # math.fsum rounds once: the same table whatever numpy's summation order.
        shares[parity::2] = part / math.fsum(part)
    return shares


def laplacian_shares(mean_magnitude: float, length: int) -> Floats:
    """float64[length]: probability of |n| given its superset, for a two-sided geometric law.

    `mean_magnitude` is that of the weights, in steps.
    """
    magnitudes = np.arange(length, dtype=np.float64)
    masses = np.exp(-magnitudes / max(mean_magnitude, 0.25))
    masses[1:] *= 2.0
    return _per_superset(np.maximum(masses, _TINY))


def counted_shares(multiples: npt.NDArray[np.int32], prior: Floats) -> Floats:
    """Probabilities of |n| given its superset, from counts and PRIOR observations of `prior`."""
    counts = np.bincount(np.abs(multiples).ravel(), minlength=len(prior)).astype(np.float64)
    return _per_superset(counts + PRIOR * prior)


def bits_of(shares: Floats) -> Floats:
    """float64: bits of |n| with its sign, given the superset. Both signs share one table."""
    bits = -np.log2(shares)
    bits[1:] += 1.0
    return bits
