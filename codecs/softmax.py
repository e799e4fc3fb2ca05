"""Symbols coded under distributions given as logits: a language model as the model of a range coder.

Each symbol comes with its own row of float32 logits. The row becomes integer frequencies

    freq[i] = 1 + floor(2^24 · e^(logit[i] - max) / Σ e^(logit[j] - max)),   total = Σ freq,

so that every symbol can be coded. The arithmetic is float64 with additions, multiplications and one
division in a fixed order, and its own exponential (`exp2_`): no call into a mathematics library, so
equal logits give equal frequencies on every IEEE machine. The total is not a power of two; the coder
divides by it.

Costs beyond the logits' own entropy, per symbol: the ones take a share V/2^24 of the probability (V
symbols; 1.44·V/2^24 bits), and the division cuts off at most total of a range that is spread over
2^32 … 2^64, 0.0003 bit on average. Together under 0.0004 bit for 1,024 symbols and 0.001 for 8,192.
"""

# numba types the scalars of kernels (see rangecoder)
# mypy: disable-error-code="assignment, arg-type, return-value, operator"
from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from squeeze.codecs.coder.rangecoder import (
    State,
    Words,
    check_end,
    finish_encoding,
    load,
    put,
    start_decoding,
    start_encoding,
    store_,
    take,
)
from squeeze.codecs.jit import njit
from squeeze.errors import CorruptData, SqueezeError

Logits = npt.NDArray[np.float32]
Frequencies = npt.NDArray[np.uint64]

MAX_SYMBOLS = 1 << 16  # keeps the total below 2^25, far from the coder's 2^32
SCALE = float(1 << 24)
LOG2_E = 1.4426950408889634
LN_2 = 0.6931471805599453
SMALLEST = 63  # powers of two below 2^-63 of the most probable symbol count as zero
_POWERS = np.array([2.0**-k for k in range(SMALLEST + 1)])  # exact


def _taylor(count: int) -> tuple[float, ...]:
    """Coefficients ln(2)^n / n! of 2^x: for |x| ≤ 1/2 the first left out of 9 is below 2e-10."""
    terms = [1.0]
    for n in range(1, count):
        terms.append(terms[-1] * LN_2 / n)
    return tuple(terms)


_C0, _C1, _C2, _C3, _C4, _C5, _C6, _C7, _C8 = _taylor(9)


@njit(nogil=True, inline="always", fastmath=False)
def exp2_(x: float) -> float:
    """2^x for x ≤ 0 to 1e-9, relative; 0 below 2^-63."""
    if x < -float(SMALLEST):
        return 0.0
    whole = np.int64(x - 0.5)  # nearest integer, since x ≤ 0
    f = x - whole
    series = _C5 + f * (_C6 + f * (_C7 + f * _C8))
    series = _C0 + f * (_C1 + f * (_C2 + f * (_C3 + f * (_C4 + f * series))))
    return series * _POWERS[-whole]


@njit(nogil=True, fastmath=False)
def fill_cumulative_(logits: Logits, weights_: npt.NDArray[np.float64], cum_: Frequencies) -> None:
    """cum_ uint64 [V + 1]: running sums of the frequencies of logits [V]; weights_ is scratch [V]."""
    top = logits[0]
    for i in range(1, logits.size):
        if logits[i] > top:
            top = logits[i]
    total = 0.0
    for i in range(logits.size):
        weights_[i] = exp2_((np.float64(logits[i]) - np.float64(top)) * LOG2_E)
        total += weights_[i]
    share = SCALE / total
    running = np.uint64(0)
    cum_[0] = running
    for i in range(logits.size):
        running += np.uint64(np.int64(weights_[i] * share)) + np.uint64(1)
        cum_[i + 1] = running


@njit(nogil=True)
def encode_rows(
    logits: Logits,
    symbols: npt.NDArray[np.int64],
    weights_: npt.NDArray[np.float64],
    cum_: Frequencies,
    state_: State,
    words_: Words,
) -> None:
    """Encode symbols [B], each under its row of logits [B, V]; words_ has room for B more."""
    interval = load(state_)
    for row in range(symbols.size):
        fill_cumulative_(logits[row], weights_, cum_)
        unit = interval.span // cum_[cum_.size - 1]
        start = cum_[symbols[row]]
        width = cum_[symbols[row] + 1] - start
        interval = put(interval, words_, unit * start, unit * width)
    store_(state_, interval)


@njit(nogil=True)
def decode_rows(
    logits: Logits,
    symbols_: npt.NDArray[np.int64],
    weights_: npt.NDArray[np.float64],
    cum_: Frequencies,
    state_: State,
    words: Words,
) -> None:
    """Mirror of `encode_rows`."""
    interval = load(state_)
    for row in range(symbols_.size):
        fill_cumulative_(logits[row], weights_, cum_)
        unit = interval.span // cum_[cum_.size - 1]
        target = interval.low // unit
        if target >= cum_[cum_.size - 1]:
            target = cum_[cum_.size - 1] - np.uint64(1)
        symbol = np.searchsorted(cum_, target, side="right") - 1
        symbols_[row] = symbol
        start = cum_[symbol]
        width = cum_[symbol + 1] - start
        interval = take(interval, words, unit * start, unit * width)
    store_(state_, interval)


class SoftmaxEncoder:
    """Writes symbols one batch of rows at a time; `finish` gives the bytes."""

    def __init__(self) -> None:
        self._state = start_encoding()
        self._words = np.zeros(1024, np.uint32)
        self._scratch = _Scratch()

    def encode(self, logits: Logits, symbols: npt.NDArray[Any]) -> None:
        """Encode symbols int [B] in row order, each under its row of logits float32 [B, V].

        Raises SqueezeError for other shapes, symbols outside 0..V-1, and logits that are not finite.
        """
        logits = _checked(logits)
        symbols = np.ascontiguousarray(symbols, np.int64)
        if symbols.shape != logits.shape[:1]:
            raise SqueezeError("one symbol a row", expected=len(logits), found=symbols.shape)
        if symbols.size and not 0 <= int(symbols.min()) <= int(symbols.max()) < logits.shape[1]:
            raise SqueezeError(
                "symbol outside the distribution",
                expected=f"0..{logits.shape[1] - 1}",
                found=f"{symbols.min()}..{symbols.max()}",
            )
        needed = int(self._state[2]) + symbols.size + 1  # a symbol completes one word at most
        if needed > len(self._words):
            self._words = np.concatenate([self._words, np.zeros(needed, np.uint32)])
        scratch = self._scratch.of_size(logits.shape[1])
        encode_rows(logits, symbols, *scratch, self._state, self._words)

    def finish(self) -> bytes:
        """All symbols so far, as the fewest bytes that name them."""
        return finish_encoding(self._state, self._words.copy())  # it may carry into them


class SoftmaxDecoder:
    """Reads back what `SoftmaxEncoder` wrote, given bit-identical logits row by row."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._state, self._words = start_decoding(data)
        self._scratch = _Scratch()

    def decode(self, logits: Logits) -> npt.NDArray[np.int64]:
        """The symbols int64 [B] coded under logits float32 [B, V].

        Raises CorruptData once it has read past the end of the data, SqueezeError as the encoder.
        """
        logits = _checked(logits)
        symbols = np.empty(len(logits), np.int64)
        decode_rows(
            logits, symbols, *self._scratch.of_size(logits.shape[1]), self._state, self._words
        )
        read = 4 * (int(self._state[2]) - 2)
        if read > len(self._data):
            raise CorruptData(
                "the coded text ends too early",
                expected=f"≥ {read} bytes",
                found=len(self._data),
            )
        return symbols

    def finish(self) -> None:
        """Raises CorruptData unless the symbols read so far are all there are."""
        check_end(self._state, self._data)


class _Scratch:
    """Buffers of the kernels, kept from call to call."""

    def __init__(self) -> None:
        self._arrays = (np.zeros(0), np.zeros(0, np.uint64))

    def of_size(self, count: int) -> tuple[npt.NDArray[np.float64], Frequencies]:
        if len(self._arrays[0]) != count:
            self._arrays = (np.zeros(count), np.zeros(count + 1, np.uint64))
        return self._arrays


def _checked(logits: Logits) -> Logits:
    if logits.ndim != 2 or logits.dtype != np.float32 or not 1 <= logits.shape[1] <= MAX_SYMBOLS:
        raise SqueezeError(
            "logits",
            expected=f"float32 [rows, 1..{MAX_SYMBOLS}]",
            found=f"{logits.dtype} {list(logits.shape)}",
        )
    if not np.isfinite(logits).all():
        raise SqueezeError("logits are not all finite numbers")
    return np.ascontiguousarray(logits)
