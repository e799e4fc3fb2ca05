"""A carry-correct range coder: 64-bit state, 32-bit renormalisation, compiled.

Derivation
----------
The message is one number v in [0, 1), written in base 2^32: words w0 w1 w2 … After the words
w0 … w(n-1) are out, the encoder holds `low` and `range`, both below 2^64, and the pledge

    (1)   W·2^64 + low  ≤  v·2^(32n)·2^64  <  W·2^64 + low + range,   W = the words read as one integer
    (2)   2^32 ≤ range < 2^64.

*A symbol* with interval [cum, cum + freq) out of 2^bits, freq ≥ 1, bits ≤ 32, keeps its share:

    unit = range >> bits;   low += unit·cum;   range = unit·freq.

The new interval lies within the old one, since unit·(cum + freq) ≤ unit·2^bits ≤ range, and those
of different symbols are disjoint, so v names the symbols. What the shift cuts off is wasted: at
most a share 2^bits / range of the interval, which for bits = 16 is below 2^-16 by (2).

*A binary decision* is the case of two symbols, except that the second takes the whole rest
(range - unit·p), so nothing is cut off.

*Renormalisation.* By (2) unit ≥ 2^(32 - bits) ≥ 1, hence range ≥ 1 after a symbol. If range < 2^32,
the word low >> 32 goes out, and low and range shift left by 32 (low modulo 2^64). Once is enough:
range ≥ 1 becomes ≥ 2^32, and (2) holds again; (1) is (1) scaled by 2^32.

*Carry.* low + unit·cum may reach 2^64. The excess 2^64 belongs to W: add one to the last word, and
while a word overflows to zero, to the one before. The chain cannot pass w0, because by (1) the
whole number stays below low + range of the start, 2^64 - 1 on the scale of no words, that is v < 1.
Nor does it run long: a word of ones has probability 2^-32 for each further step. Both coders of
this project write into an array, so the words can still be changed and nothing is held back.

*The end.* Any v in the interval will do: the one with the fewest bytes after the words, 0 to 4, as
range ≥ 2^32 leaves the low four bytes free. The decoder takes absent bytes as zero.

*Decoding* mirrors it with code = v - low, in [0, range): the target is code // unit, clipped to
2^bits - 1 (only damaged data reaches that); subtract unit·cum; on renormalisation shift the next
word in. It has read 2 words at the start and one for each renormalisation, the encoder has written
one for each and 0 to 4 bytes, so a whole payload satisfies

    (3)   4·renormalisations ≤ bytes ≤ 4·renormalisations + 4,

and `check_end` refuses all others. Past its end, the decoder shifts zeros in and stops
early; it never reads outside the array.
"""

# numba types the scalars of kernels, as int64 or uint64; to mypy each would be a third type.
# mypy: disable-error-code="assignment, arg-type, return-value, operator"
from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from squeeze.codecs.jit import njit
from squeeze.errors import CorruptData

Words = npt.NDArray[np.uint32]
State = npt.NDArray[np.uint64]

# numba makes a float of uint64 op int64, so every constant that meets the state is a uint64.
_WORD_BITS = np.uint64(32)
_MIN_RANGE = np.uint64(1 << 32)
_START_RANGE = np.uint64((1 << 64) - 1)
_MASK64 = (1 << 64) - 1

# Kernels that allocate nothing are compiled with `_nrt=False`: numba then counts no references to
# their arrays, which takes longer than the coding. The steps that they share have `forceinline`, as
# LLVM leaves them out of line otherwise: 52 instead of 78 ns a weight, and 105 with references counted
# (docs/log.md).


class Interval(NamedTuple):
    """The interval that is left, in registers; all on the scale of the next word.

    low: uint64, its lower end; a decoder has `code` here, the coded number's distance from that end.
    span: uint64, its width: `range` in the derivation.
    n: int64, number of words written, or read, counted also beyond the end.
    """

    low: int
    span: int
    n: int


class Coder(NamedTuple):
    """One end of a stream between two calls of a kernel.

    encoding: True where symbols are written, False where they are read.
    state: uint64[3], the fields of `Interval`.
    words: uint32[n], the stream; an encoder needs room for all that a call may write.
    """

    encoding: bool
    state: State
    words: Words


# --- one interval; models inline these ------------------------------------------------------------


@njit(nogil=True, _nrt=False, forceinline=True)
def load(state: State) -> Interval:
    """Return the interval that a state, uint64[3], holds."""
    return Interval(state[0], state[1], np.int64(state[2]))


@njit(nogil=True, _nrt=False, forceinline=True)
def store_(state_: State, interval: Interval) -> None:
    """Write the interval into a state, uint64[3]."""
    state_[0], state_[1], state_[2] = interval.low, interval.span, np.uint64(interval.n)


@njit(nogil=True, _nrt=False)
def carry_(words_: Words, n: int) -> None:
    """Add one to the number that the first `n` words spell."""
    n -= 1
    while words_[n] == np.uint32(0xFFFFFFFF):
        words_[n] = np.uint32(0)
        n -= 1
    words_[n] += np.uint32(1)


@njit(nogil=True, _nrt=False, forceinline=True)
def put(interval: Interval, words_: Words, start: int, width: int) -> Interval:
    """Narrow to [start, start + width), uint64 both, and write the word that is then certain.

    start, width: on the scale of the span.
    """
    low, span, n = interval.low + start, width, interval.n
    if low < interval.low:
        carry_(words_, n)
    if span < _MIN_RANGE:
        words_[n] = np.uint32(low >> _WORD_BITS)
        n += 1
        low = low << _WORD_BITS
        span = span << _WORD_BITS
    return Interval(low, span, n)


@njit(nogil=True, _nrt=False, forceinline=True)
def take(interval: Interval, words: Words, start: int, width: int) -> Interval:
    """Mirror `put`: narrow to [start, start + width), and read a word where one was written."""
    code, span, n = interval.low - start, width, interval.n
    if span < _MIN_RANGE:
        code = code << _WORD_BITS
        if n < words.size:
            code = code | np.uint64(words[n])
        n += 1
        span = span << _WORD_BITS
    return Interval(code, span, n)


# --- the two ends ---------------------------------------------------------------------------------


def start_encoding(bits: int = 0) -> Coder:
    """Return the encoder of a new stream with room for so many bits."""
    state = np.array([0, _START_RANGE, 0], np.uint64)
    return with_room(Coder(True, state, np.empty(0, np.uint32)), bits)


def with_room(encoder: Coder, bits: int) -> Coder:
    """Return an encoder that can write `bits` more bits: the same, or one with a longer array."""
    words, needed = encoder.words, int(encoder.state[2]) + bits // 32 + 4
    if needed <= words.size:
        return encoder
    longer = np.concatenate([words, np.empty(needed + words.size // 2, np.uint32)])
    return Coder(True, encoder.state, longer)


def finish_encoding(encoder_: Coder) -> bytes:
    """Return the words, big-endian as digits are written, and the fewest bytes that end the number.

    The last carry may change the encoder's words.
    """
    low, span, n = (int(x) for x in encoder_.state)
    for count in range(5):
        unit = 1 << 64 - 8 * count
        value = -(-low // unit) * unit
        if value - low < span:
            break
    if value >> 64:
        carry_(encoder_.words, n)
    tail = (value & _MASK64).to_bytes(8, "big")[:count]
    return encoder_.words[:n].astype(">u4").tobytes() + tail


def start_decoding(data: bytes) -> Coder:
    """Return the decoder of a whole stream."""
    words = np.frombuffer(data + bytes(8 + -len(data) % 4), ">u4").astype(np.uint32)
    code = int(words[0]) << 32 | int(words[1])
    return Coder(False, np.array([code, _START_RANGE, 2], np.uint64), words)


def check_end(decoder: Coder, data: bytes) -> None:
    """Raise CorruptData unless (3) holds: the decoder ended where the bytes end."""
    written = 4 * (int(decoder.state[2]) - 2)
    if not written <= len(data) <= written + 4:
        raise CorruptData(
            "range coder: the stream does not end where its bytes end",
            expected=f"{written} to {written + 4} bytes",
            found=len(data),
        )
