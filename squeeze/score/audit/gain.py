"""Statistics of losses that are claimed against losses that are derived: outliers, and a bias."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from squeeze.score.audit.probe import Float64

# nats of one target, between requests of other shapes: a last bit of logits in bfloat16, or noise that
# test-time training amplifies; what so small differences gain together is a matter of the bias
SIZE, MAX_SIZE = 0.1, 0.25
SPREAD = 8.0  # medians of the differences that one of them may have, up to MAX_SIZE
BIAS = 5e-4  # nats a target: a tenth of the margin of a record
BLOCKS = 32  # neighbours share their noise, so errors are those of blocks
ERRORS = 3.6  # standard errors of a bias: one honest audit in 2,000 with 32 blocks
POWER = 2.5  # standard errors more are found with 99 %
MOST = 0.0025  # nats a target, half the margin of a record: more must not hide behind noise
MISS = 0.01


@dataclass(frozen=True)
class Gain:
    """Differences derived − claimed of the losses of n targets, in nats: what a claim gains.

    size: largest that one may have
    outliers: number of larger ones, or that are not numbers
    worst: index of the largest
    mean, error: mean and its standard error
    """

    targets: int
    size: float
    outliers: int
    worst: int
    mean: float
    error: float

    @property
    def allowed(self) -> float:
        """Mean that noise explains, in nats a target."""
        return BIAS + ERRORS * self.error

    @property
    def is_blurred(self) -> bool:
        """True when so much noise is in the differences that a gain of MOST could hide in it."""
        return self.allowed > MOST

    @property
    def biased(self) -> bool:
        """True when the claim is lower than noise explains."""
        return not self.mean <= self.allowed

    @property
    def detectable(self) -> float:
        """Bias that would have been found with 99 %, in nats a target."""
        return self.allowed + POWER * self.error


def compare(derived: Float64, claimed: Float64) -> Gain:
    """Return the gain of claimed over derived losses, both [n] in nats of the same targets."""
    change = np.nan_to_num(derived - claimed, nan=np.inf)
    if not len(change):
        return Gain(0, SIZE, 0, 0, 0.0, 0.0)
    sizes = np.abs(change)
    size = min(MAX_SIZE, max(SIZE, SPREAD * float(np.median(sizes))))
    blocks = np.array([part.mean() for part in np.array_split(change, min(BLOCKS, len(change)))])
    with np.errstate(invalid="ignore"):  # infinite differences are outliers
        error = float(blocks.std(ddof=1)) / math.sqrt(len(blocks)) if len(blocks) > 1 else 0.0
    return Gain(
        len(change),
        size,
        int((sizes > size).sum()),
        int(sizes.argmax()),
        float(change.mean()),
        error,
    )


def hidden_share(checks: int) -> float:
    """Return the share of targets at which a leak hits one of `checks` drawn ones with 99 %."""
    return float(-np.expm1(math.log(MISS) / checks)) if checks else 1.0
