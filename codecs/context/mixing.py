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

import numpy as np
import numpy.typing as npt

from squeeze.codecs.coder.rangecoder import Words, put, take
from squeeze.codecs.jit import njit
from squeeze.codecs.normal_table import exp_minus

PROBABILITY_BITS = 16  # of a mixed probability, as the range coder uses it
ODDS_UNIT = 256  # log-odds are integers in units of 1/256 nat
ODDS_LIMIT = 12 * ODDS_UNIT
COUNT_LIMIT = 500  # a slot averages over about this many decisions
NEW_SLOT = 1 << 31  # P(1) = ½, nothing counted
WEIGHT_ONE = 1 << 16

_WORK_BITS = 128


def _squash_table() -> npt.NDArray[np.int64]:
    """int64[2·ODDS_LIMIT]: 2^16 / (1 + exp(-x)) at log-odds x from -ODDS_LIMIT, at least 8."""
    one = 1 << _WORK_BITS
    shrink = exp_minus(1, ODDS_UNIT)
    falling = one  # exp(-i / ODDS_UNIT)
    upper = []  # for x = i ≥ 0
    for _ in range(ODDS_LIMIT + 1):
        upper.append(min((one << PROBABILITY_BITS) // (one + falling), (1 << PROBABILITY_BITS) - 8))
        falling = falling * shrink >> _WORK_BITS
    lower = [(1 << PROBABILITY_BITS) - p for p in upper[:0:-1]]
    return np.array(lower + upper[:-1], np.int64)


def _stretch_table(squash: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """int64[4096]: the log-odds of (i + ½) / 4096, as the inverse of `squash`."""
    centres = (2 * np.arange(2048, 4096) + 1) << PROBABILITY_BITS - 13
    upper = np.searchsorted(squash, centres) - ODDS_LIMIT
    return np.concatenate([-upper[::-1], upper])


SQUASH = _squash_table()
STRETCH = _stretch_table(SQUASH)
# A slot that has seen n decisions moves 1/(n + 3/2) of the way to the next.
PACE = np.array([(2 << 16) // (2 * n + 3) for n in range(1024)], np.int64)

# Inlined by numba rather than left to LLVM, which does not: 104 instead of 177 ns a weight.


@njit(nogil=True, inline="always")
def move_slot_(slots_: npt.NDArray[np.uint32], i: int, bit: int) -> None:
    """Move P(1) of slot i towards the bit."""
    slot = np.int64(slots_[i])
    count = slot & 1023
    p = slot >> 10
    p += (((bit << 22) - p) >> 3) * PACE[count] >> 13
    p = min(max(p, 0), (1 << 22) - 1)
    slots_[i] = np.uint32(p << 10 | min(count + 1, COUNT_LIMIT))


@njit(nogil=True, inline="always")
def code_bit(
    bit: int, p1: int, encoding: bool, low: int, span: int, words: Words, n: int
) -> tuple[int, int, int, int]:
    """Encode `bit`, or decode and ignore it, with P(1) = p1 / 2^16; returns (bit, low, span, n).

    `low` is the decoder's `code` when decoding; see `rangecoder`.
    """
    split = (span >> np.uint64(PROBABILITY_BITS)) * np.uint64(p1)
    if encoding:
        if bit:
            low, span, n = put(low, span, words, n, np.uint64(0), split)
        else:
            low, span, n = put(low, span, words, n, split, span - split)
    elif low < split:
        bit = 1
        low, span, n = take(low, span, words, n, np.uint64(0), split)
    else:
        bit = 0
        low, span, n = take(low, span, words, n, split, span - split)
    return bit, low, span, n


@njit(nogil=True)
def code_slot_(
    bit: int,
    slots_: npt.NDArray[np.uint32],
    i: int,
    encoding: bool,
    low: int,
    span: int,
    words: Words,
    n: int,
) -> tuple[int, int, int, int]:
    """A decision under one slot, without mixing."""
    p1 = min(max(np.int64(slots_[i]) >> 16, 8), (1 << PROBABILITY_BITS) - 8)
    bit, low, span, n = code_bit(bit, p1, encoding, low, span, words, n)
    move_slot_(slots_, i, bit)
    return bit, low, span, n


@njit(nogil=True, inline="always")
def code_mixed_(
    bit: int,
    slots_: npt.NDArray[np.uint32],
    i: int,
    j: int,
    k: int,
    weights_: npt.NDArray[np.int64],
    w: int,
    rate: int,
    encoding: bool,
    low: int,
    span: int,
    words: Words,
    n: int,
) -> tuple[int, int, int, int]:
    """A decision under slots i, j, k mixed by weights_[w : w + 3], which learn at `rate`."""
    si = STRETCH[slots_[i] >> np.uint32(20)]
    sj = STRETCH[slots_[j] >> np.uint32(20)]
    sk = STRETCH[slots_[k] >> np.uint32(20)]
    odds = (weights_[w] * si + weights_[w + 1] * sj + weights_[w + 2] * sk) >> 16
    odds = min(max(odds, -ODDS_LIMIT), ODDS_LIMIT - 1)
    p1 = SQUASH[odds + ODDS_LIMIT]
    bit, low, span, n = code_bit(bit, p1, encoding, low, span, words, n)
    error = ((bit << PROBABILITY_BITS) - p1) * rate
    weights_[w] += (si * error + (1 << 19)) >> 20
    weights_[w + 1] += (sj * error + (1 << 19)) >> 20
    weights_[w + 2] += (sk * error + (1 << 19)) >> 20
    move_slot_(slots_, i, bit)
    move_slot_(slots_, j, bit)
    move_slot_(slots_, k, bit)
    return bit, low, span, n
