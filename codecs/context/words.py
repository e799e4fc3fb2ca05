"""Context coding of words: row steps, small tensors, anything whose bit patterns resemble the last.

Each word goes byte by byte from the highest, each byte as eight binary decisions down a tree. Three
contexts are mixed: for the highest byte those of the word before, of the one before that, and of a
running mean; for a lower byte the byte above it, the same byte of the word before (and whether all
above agreed), and where the running mean lies. Bit patterns of floats need no decoding for this:
their order is that of the floats, and the steps of a layer lie close together.
"""

# numba types the scalars of kernels, as int64 or uint64; to mypy each would be a third type.
# mypy: disable-error-code="assignment, arg-type, return-value, operator"
from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from squeeze.codecs.base import Codec, Symbols
from squeeze.codecs.coder import rangecoder
from squeeze.codecs.coder.rangecoder import Coder, Interval, load, store_
from squeeze.codecs.context.mixing import (
    NEW_SLOT,
    WEIGHT_ONE,
    Decision,
    Mixer,
    code_mixed_,
)
from squeeze.codecs.jit import njit

CONTEXTS = 512
NODES = 256
RATE = 80
MEAN_WINDOW = 16
CHUNK = 1 << 15  # words coded at a time
_WORST_BITS = 14 * 8  # of a byte


class History(NamedTuple):
    """The words before, as far as contexts use them.

    last, before: the last word and the one before it.
    mean: 2^8 times their running mean.
    count: number of words the mean is over, at most MEAN_WINDOW.
    """

    last: int
    before: int
    mean: int
    count: int


class WordModel(NamedTuple):
    """All that adapts while one array of words is coded.

    mixer: NODES slots to each context of each byte; three weights to each bit of a byte, for each
    byte and for whether the bytes above agree with those of the word before.
    history: int64[4], the fields of `History` between two calls.
    """

    mixer: Mixer
    history: npt.NDArray[np.int64]


def start_model(planes: int) -> WordModel:
    """Return the model of words of `planes` bytes before the first word."""
    slots = np.full(3 * planes * CONTEXTS * NODES, NEW_SLOT, np.uint32)
    weights = np.full(3 * 16 * planes, WEIGHT_ONE // 2, np.int64)
    return WordModel(Mixer(slots, weights), np.zeros(4, np.int64))


@njit(nogil=True, _nrt=False, forceinline=True)
def _decision_of_byte(plane: int, planes: int, above: int, history: History) -> Decision:
    """Return where the statistics of a byte lie, those of its highest bit at node 0.

    plane: the byte's number, 0 for the lowest.
    above: the higher bytes of the word, as one number.
    """
    down = 8 * plane
    last_byte = (history.last >> down) & 255
    agrees = np.int64(above == history.last >> (down + 8))
    if plane == planes - 1:
        a, b, c = (history.before >> down) & 255, last_byte, (history.mean >> (down + 8)) & 255
    else:
        a = above & 255 if plane == planes - 2 else np.int64(0)
        b = last_byte << 1 | agrees
        away = min(max(above - (history.mean >> (down + 16)), -2), 2) + 2
        c = away << 5 | ((history.mean >> (down + 11)) & 31)
    return Decision(
        (3 * plane * CONTEXTS + a) * NODES,
        ((3 * plane + 1) * CONTEXTS + b) * NODES,
        ((3 * plane + 2) * CONTEXTS + c) * NODES,
        3 * 8 * (2 * plane + agrees),
        RATE,
    )


@njit(nogil=True, _nrt=False, forceinline=True)
def _code_byte_(
    byte: int, first: Decision, mixer_: Mixer, coder: Coder, interval: Interval
) -> tuple[int, Interval]:
    """Code the low eight bits of `byte` from the highest on, or decode eight and ignore `byte`."""
    node = np.int64(1)
    for k in range(7, -1, -1):
        decision = Decision(
            first.first + node,
            first.second + node,
            first.third + node,
            first.weight + 3 * k,
            first.rate,
        )
        bit, interval = code_mixed_((byte >> k) & 1, decision, mixer_, coder, interval)
        node = node << 1 | bit
    return node & 255, interval


@njit(nogil=True, _nrt=False)
def code_words_(
    values_: npt.NDArray[np.int64], planes: int, model_: WordModel, coder_: Coder
) -> None:
    """Encode int64 values below 2^(8·planes), or decode into them.

    When decoding, values after the end of the words are left as they are.
    """
    interval = load(coder_.state)
    past = model_.history
    history = History(past[0], past[1], past[2], past[3])
    for i in range(values_.size):
        if not coder_.encoding and interval.n > coder_.words.size + 2:
            break
        value = values_[i]
        above = np.int64(0)
        for plane in range(planes - 1, -1, -1):
            decision = _decision_of_byte(plane, planes, above, history)
            byte, interval = _code_byte_(
                value >> 8 * plane, decision, model_.mixer, coder_, interval
            )
            above = above << 8 | byte
        values_[i] = above
        count = min(history.count + 1, MEAN_WINDOW)
        mean = history.mean + ((above << 8) - history.mean) // count
        history = History(above, history.last, mean, count)
    past[0], past[1], past[2], past[3] = history
    store_(coder_.state, interval)


class ContextWords(Codec):
    """Payload: the stream alone; signed values go as their two's complement bit patterns."""

    name = "context-words"
    wire_id = 49

    def _encode(self, symbols: Symbols) -> bytes:
        planes = symbols.dtype.itemsize
        patterns = symbols.reshape(-1).view(f"u{planes}")
        model = start_model(planes)
        coder = rangecoder.start_encoding()
        for first in range(0, patterns.size, CHUNK):
            values = patterns[first : first + CHUNK].astype(np.int64)
            coder = rangecoder.with_room(coder, values.size * planes * _WORST_BITS)
            code_words_(values, planes, model, coder)
        return rangecoder.finish_encoding(coder)

    def _decode(self, data: bytes, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Symbols:
        return decode_words(data, shape, dtype)


def decode_words(data: bytes, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Symbols:
    """Return the words of a payload, at least one. Raises CorruptData."""
    planes = dtype.itemsize
    patterns = np.zeros(int(np.prod(shape)), f"u{planes}")
    model = start_model(planes)
    coder = rangecoder.start_decoding(data)
    for first in range(0, patterns.size, CHUNK):
        values = np.zeros(min(CHUNK, patterns.size - first), np.int64)
        code_words_(values, planes, model, coder)
        patterns[first : first + CHUNK] = values
    rangecoder.check_end(coder, data)
    return patterns.view(dtype).reshape(shape)
