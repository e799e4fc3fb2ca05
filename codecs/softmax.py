"""Symbols coded under distributions given as logits: a language model as the model of a range coder.

Each symbol comes with its own row of float32 logits. The row becomes integer frequencies

    freq[i] = 1 + floor(2^24 · e^(logit[i] - max) / Σ e^(logit[j] - max)),   total = Σ freq,

so that every symbol can be coded. The arithmetic is float64 with additions, multiplications and one
division in a fixed order, and its own exponential (`exp2`): no call into a mathematics library, so
equal logits give equal frequencies on every IEEE machine. The total is not a power of two; the coder
divides by it.

Costs beyond the logits' own entropy, per symbol: the ones take a share V/2^24 of the probability (V
symbols; 1.44·V/2^24 bits), and the division cuts off at most total of a range that is spread over
2^32 … 2^64, 0.0003 bit on average. Together under 0.0004 bit for 1,024 symbols and 0.001 for 8,192.
"""

# numba types the scalars of kernels (see rangecoder)
# mypy: disable-error-code="assignment, arg-type, return-value, operator"
from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from squeeze.codecs.coder.rangecoder import (
    Coder,
    check_end,
    finish_encoding,
    load,
    put,
    start_decoding,
    start_encoding,
    store_,
    take,
    with_room,
)
from squeeze.codecs.jit import njit
from squeeze.errors import CorruptData, SqueezeError

Logits = npt.NDArray[np.float32]

MAX_SYMBOLS = 1 << 16  # keeps the total below 2^25, far from the coder's 2^32
SCALE = float(1 << 24)
LOG2_E = 1.4426950408889634
LN_2 = 0.6931471805599453
SMALLEST = 63  # powers of two below 2^-63 of the most probable symbol count as zero
_POWERS = np.array([2.0**-k for k in range(SMALLEST + 1)])  # exact


class Scratch(NamedTuple):
    """Buffers of the kernels for distributions over V symbols.

    weights: float64[V].
    cumulative: uint64[V + 1], running sums of frequencies.
    """

    weights: npt.NDArray[np.float64]
    cumulative: npt.NDArray[np.uint64]


def _taylor(count: int) -> tuple[float, ...]:
    """Return the coefficients ln(2)^n / n! of 2^x; of 9 the first left out is below 2e-10 at |x| ≤ ½."""
    terms = [1.0]
    for n in range(1, count):
        terms.append(terms[-1] * LN_2 / n)
    return tuple(terms)


_C0, _C1, _C2, _C3, _C4, _C5, _C6, _C7, _C8 = _taylor(9)


@njit(nogil=True, _nrt=False, forceinline=True, fastmath=False)
def exp2(x: float) -> float:
    """Return 2^x for x ≤ 0, to a relative 1e-9; 0 below 2^-63."""
    if x < -float(SMALLEST):
        return 0.0
    whole = np.int64(x - 0.5)  # nearest integer, since x ≤ 0
    f = x - whole
    series = _C5 + f * (_C6 + f * (_C7 + f * _C8))
    series = _C0 + f * (_C1 + f * (_C2 + f * (_C3 + f * (_C4 + f * series))))
    return series * _POWERS[-whole]


@njit(nogil=True, _nrt=False, fastmath=False)
def fill_cumulative_(scratch_: Scratch, logits: Logits) -> None:
    """Fill the running sums of the frequencies of float32[V] logits."""
    weights_, cumulative_ = scratch_.weights, scratch_.cumulative
    top = logits[0]
    for i in range(1, logits.size):
        if logits[i] > top:
            top = logits[i]
    total = 0.0
    for i in range(logits.size):
        weights_[i] = exp2((np.float64(logits[i]) - np.float64(top)) * LOG2_E)
        total += weights_[i]
    share = SCALE / total
    running = np.uint64(0)
    cumulative_[0] = running
    for i in range(logits.size):
        running += np.uint64(np.int64(weights_[i] * share)) + np.uint64(1)
        cumulative_[i + 1] = running


@njit(nogil=True)
def code_symbols_(
    coder_: Coder, symbols_: npt.NDArray[np.int64], logits: Logits, scratch_: Scratch
) -> None:
    """Encode symbols int64[B], each under its row of logits float32[B, V], or decode into them."""
    interval = load(coder_.state)
    cumulative = scratch_.cumulative
    for row in range(symbols_.size):
        fill_cumulative_(scratch_, logits[row])
        total = cumulative[cumulative.size - 1]
        unit = interval.span // total
        if not coder_.encoding:
            target = min(interval.low // unit, total - np.uint64(1))
            symbols_[row] = np.searchsorted(cumulative, target, side="right") - 1
        symbol = symbols_[row]
        start = cumulative[symbol]
        width = cumulative[symbol + 1] - start
        if coder_.encoding:
            interval = put(interval, coder_.words, unit * start, unit * width)
        else:
            interval = take(interval, coder_.words, unit * start, unit * width)
    store_(coder_.state, interval)


class SoftmaxEncoder:
    """Encoder of symbols, one batch of rows at a time; `finish` gives the bytes."""

    def __init__(self) -> None:
        self._coder = start_encoding()
        self._scratch = _scratch(0)

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
        self._coder = with_room(self._coder, 32 * symbols.size)  # a symbol completes a word at most
        self._scratch = _of_width(self._scratch, logits.shape[1])
        code_symbols_(self._coder, symbols, logits, self._scratch)

    def finish(self) -> bytes:
        """Return all symbols so far as the fewest bytes that name them; more may follow."""
        return finish_encoding(self._coder._replace(words=self._coder.words.copy()))


class SoftmaxDecoder:
    """Decoder of `SoftmaxEncoder`'s bytes, given bit-identical logits row by row."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._coder = start_decoding(data)
        self._scratch = _scratch(0)

    def decode(self, logits: Logits) -> npt.NDArray[np.int64]:
        """Decode symbols int64 [B], each under its row of logits float32 [B, V].

        Raises CorruptData once it has read past the end of the data, SqueezeError as the encoder.
        """
        logits = _checked(logits)
        symbols = np.zeros(len(logits), np.int64)
        self._scratch = _of_width(self._scratch, logits.shape[1])
        code_symbols_(self._coder, symbols, logits, self._scratch)
        read = 4 * (int(self._coder.state[2]) - 2)
        if read > len(self._data):
            raise CorruptData(
                "the coded text ends too early",
                expected=f"≥ {read} bytes",
                found=len(self._data),
            )
        return symbols

    def finish(self) -> None:
        """Raise CorruptData unless the symbols read so far are all there are."""
        check_end(self._coder, self._data)


def _scratch(width: int) -> Scratch:
    """Return buffers for distributions over `width` symbols."""
    return Scratch(np.zeros(width), np.zeros(width + 1, np.uint64))


def _of_width(scratch: Scratch, width: int) -> Scratch:
    """Return `scratch`, or new buffers where it has another width."""
    return scratch if scratch.weights.size == width else _scratch(width)


def _checked(logits: Logits) -> Logits:
    """Return C-contiguous logits. Raises SqueezeError for another type or shape, NaN and infinities."""
    if logits.ndim != 2 or logits.dtype != np.float32 or not 1 <= logits.shape[1] <= MAX_SYMBOLS:
        raise SqueezeError(
            "logits",
            expected=f"float32 [rows, 1..{MAX_SYMBOLS}]",
            found=f"{logits.dtype} {list(logits.shape)}",
        )
    if not np.isfinite(logits).all():
        raise SqueezeError("logits are not all finite numbers")
    return np.ascontiguousarray(logits)
