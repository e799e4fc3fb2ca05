"""Binary decisions: adaptive probabilities, mixed in the logistic domain, integers throughout.

Each context keeps a slot: an estimate of P(1) with 22 bits and a count with 10. A decision looks up
three slots, adds their log-odds with trained weights, codes the bit, then moves the weights by the
coding error and each slot towards the bit. This is the mixing of M. Mahoney's lpaq ("Adaptive
weighing of context models for lossless data compression", Florida Tech CS-2005-16), with finer
probabilities: decisions here are few and stationary, and some are nearly certain.
"""

# numba types the scalars of kernels, as int64 or uint64; to mypy each would be a third type.
# mypy: disable-error-code="assignment, arg-type, return-value, operator"
from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from squeeze.codecs.coder.rangecoder import Coder, Interval, put, take
from squeeze.codecs.jit import njit
from squeeze.codecs.normal_table import exp_minus

PROBABILITY_BITS = 16  # of a mixed probability, as the range coder uses it
EVEN_ODDS = 1 << PROBABILITY_BITS - 1  # P(1) = ½
ODDS_UNIT = 256  # log-odds are integers in units of 1/256 nat
ODDS_LIMIT = 12 * ODDS_UNIT
COUNT_LIMIT = 500  # a slot averages over about this many decisions
NEW_SLOT = 1 << 31  # P(1) = ½, nothing counted
WEIGHT_ONE = 1 << 16

_WORK_BITS = 128

Slots = npt.NDArray[np.uint32]


class Mixer(NamedTuple):
    """Statistics of mixed decisions: slots uint32, and weights int64 in 1/WEIGHT_ONE."""

    slots: Slots
    weights: npt.NDArray[np.int64]


class Decision(NamedTuple):
    """Places of one decision's statistics in a `Mixer`.

    first, second, third: the slots of its three contexts.
    weight: the first of its three weights.
    rate: speed at which they learn.
    """

    first: int
    second: int
    third: int
    weight: int
    rate: int


def _squash_table() -> npt.NDArray[np.int64]:
    """Return int64[2·ODDS_LIMIT]: 2^16 / (1 + exp(-x)) at log-odds x from -ODDS_LIMIT, at least 8."""
    one = 1 << _WORK_BITS
    shrink = exp_minus(ODDS_UNIT)
    falling = one  # exp(-i / ODDS_UNIT)
    upper = []  # for x = i ≥ 0
    for _ in range(ODDS_LIMIT + 1):
        upper.append(min((one << PROBABILITY_BITS) // (one + falling), (1 << PROBABILITY_BITS) - 8))
        falling = falling * shrink >> _WORK_BITS
    lower = [(1 << PROBABILITY_BITS) - p for p in upper[:0:-1]]
    return np.array(lower + upper[:-1], np.int64)


def _stretch_table(squash: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Return int64[4096]: the log-odds of (i + ½) / 4096, as the inverse of `squash`."""
    centres = (2 * np.arange(2048, 4096) + 1) << PROBABILITY_BITS - 13
    upper = np.searchsorted(squash, centres) - ODDS_LIMIT
    return np.concatenate([-upper[::-1], upper])


SQUASH = _squash_table()
STRETCH = _stretch_table(SQUASH)
# A slot that has seen n decisions moves 1/(n + 3/2) of the way to the next.
PACE = np.array([(2 << 16) // (2 * n + 3) for n in range(1024)], np.int64)


@njit(nogil=True, _nrt=False, forceinline=True)
def move_slot_(slots_: npt.NDArray[np.uint32], i: int, bit: int) -> None:
    """Move P(1) of slot i towards the bit."""
    slot = np.int64(slots_[i])
    count = slot & 1023
    p = slot >> 10
    p += (((bit << 22) - p) >> 3) * PACE[count] >> 13
    p = min(max(p, 0), (1 << 22) - 1)
    slots_[i] = np.uint32(p << 10 | min(count + 1, COUNT_LIMIT))


@njit(nogil=True, _nrt=False, forceinline=True)
def code_bit(bit: int, p1: int, coder: Coder, interval: Interval) -> tuple[int, Interval]:
    """Encode `bit`, or decode one and ignore it, with P(1) = p1 / 2^16.

    Returns the bit and the interval that is left.
    """
    split = (interval.span >> np.uint64(PROBABILITY_BITS)) * np.uint64(p1)
    if coder.encoding:
        if bit:
            interval = put(interval, coder.words, np.uint64(0), split)
        else:
            interval = put(interval, coder.words, split, interval.span - split)
    elif interval.low < split:
        bit = 1
        interval = take(interval, coder.words, np.uint64(0), split)
    else:
        bit = 0
        interval = take(interval, coder.words, split, interval.span - split)
    return bit, interval


@njit(nogil=True, _nrt=False)
def code_slot_(
    bit: int, slots_: Slots, i: int, coder: Coder, interval: Interval
) -> tuple[int, Interval]:
    """Code a decision under slot i alone, without mixing; see `code_bit`."""
    p1 = min(max(np.int64(slots_[i]) >> 16, 8), (1 << PROBABILITY_BITS) - 8)
    bit, interval = code_bit(bit, p1, coder, interval)
    move_slot_(slots_, i, bit)
    return bit, interval


@njit(nogil=True, _nrt=False, forceinline=True)
def code_mixed_(
    bit: int, decision: Decision, mixer_: Mixer, coder: Coder, interval: Interval
) -> tuple[int, Interval]:
    """Code a decision under three slots, mixed; its weights and slots learn. See `code_bit`."""
    i, j, k, w = decision.first, decision.second, decision.third, decision.weight
    slots, weights = mixer_.slots, mixer_.weights
    si = STRETCH[slots[i] >> np.uint32(20)]
    sj = STRETCH[slots[j] >> np.uint32(20)]
    sk = STRETCH[slots[k] >> np.uint32(20)]
    odds = (weights[w] * si + weights[w + 1] * sj + weights[w + 2] * sk) >> 16
    odds = min(max(odds, -ODDS_LIMIT), ODDS_LIMIT - 1)
    p1 = SQUASH[odds + ODDS_LIMIT]
    bit, interval = code_bit(bit, p1, coder, interval)
    error = ((bit << PROBABILITY_BITS) - p1) * decision.rate
    weights[w] += (si * error + (1 << 19)) >> 20
    weights[w + 1] += (sj * error + (1 << 19)) >> 20
    weights[w + 2] += (sk * error + (1 << 19)) >> 20
    move_slot_(slots, i, bit)
    move_slot_(slots, j, bit)
    move_slot_(slots, k, bit)
    return bit, interval
