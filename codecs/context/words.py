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

from typing import Any

import numpy as np
import numpy.typing as npt

from squeeze.codecs.base import Codec, Symbols
from squeeze.codecs.coder import rangecoder
from squeeze.codecs.coder.rangecoder import State, Words
from squeeze.codecs.context.mixing import NEW_SLOT, WEIGHT_ONE, code_mixed_
from squeeze.codecs.jit import njit

CONTEXTS = 512
NODES = 256
RATE = 80
MEAN_WINDOW = 16
CHUNK = 1 << 15  # words coded at a time
_WORST_BITS = 14 * 8  # of a byte


@njit(nogil=True)
def code_words_(
    values_: npt.NDArray[np.int64],
    planes: int,
    encoding: bool,
    slots_: npt.NDArray[np.uint32],
    weights_: npt.NDArray[np.int64],
    history_: npt.NDArray[np.int64],
    coder_: State,
    words_: Words,
) -> None:
    """Encode int64 values below 2^(8·planes), or decode into them; the rest is the stream's state.

    history_: the last value, the one before, 2^8 times the running mean, how many were seen.
    """
    low, span, n = coder_[0], coder_[1], np.int64(coder_[2])
    last, before, mean, seen = history_[0], history_[1], history_[2], history_[3]
    for i in range(values_.size):
        if not encoding and n > words_.size + 2:
            break
        value = values_[i]
        above = np.int64(0)  # the bytes of the value known so far
        for plane in range(planes - 1, -1, -1):
            down = 8 * plane
            last_byte = (last >> down) & 255
            agrees = np.int64(above == last >> (down + 8))
            if plane == planes - 1:
                a, b, c = (before >> down) & 255, last_byte, (mean >> (down + 8)) & 255
            else:
                a = above & 255 if plane == planes - 2 else np.int64(0)
                b = last_byte << 1 | agrees
                away = min(max(above - (mean >> (down + 16)), -2), 2) + 2
                c = away << 5 | ((mean >> (down + 11)) & 31)
            a = (3 * plane * CONTEXTS + a) * NODES
            b = ((3 * plane + 1) * CONTEXTS + b) * NODES
            c = ((3 * plane + 2) * CONTEXTS + c) * NODES
            node = np.int64(1)
            for k in range(7, -1, -1):
                bit, low, span, n = code_mixed_(
                    (value >> (down + k)) & 1, slots_, a + node, b + node, c + node,
                    weights_, 3 * (8 * (2 * plane + agrees) + k), RATE,
                    encoding, low, span, words_, n,
                )  # fmt: skip
                node = node << 1 | bit
            above = above << 8 | (node & 255)
        values_[i] = above
        before, last = last, above
        seen = min(seen + 1, MEAN_WINDOW)
        mean += ((above << 8) - mean) // seen
    history_[0], history_[1], history_[2], history_[3] = last, before, mean, seen
    coder_[0], coder_[1], coder_[2] = low, span, np.uint64(n)


class _Stream:
    """What adapts, for one array of words of `planes` bytes."""

    def __init__(self, planes: int) -> None:
        self.planes = planes
        self.slots = np.full(3 * planes * CONTEXTS * NODES, NEW_SLOT, np.uint32)
        self.weights = np.full(3 * 16 * planes, WEIGHT_ONE // 2, np.int64)
        self.history = np.zeros(4, np.int64)

    def code_(
        self, values_: npt.NDArray[np.int64], encoding: bool, coder_: State, words_: Words
    ) -> None:
        code_words_(
            values_, self.planes, encoding, self.slots, self.weights, self.history, coder_, words_
        )


class ContextWords(Codec):
    """Payload: the stream alone; signed values go as their two's complement bit patterns."""

    name = "context-words"
    wire_id = 49

    def _encode(self, symbols: Symbols) -> bytes:
        planes = symbols.dtype.itemsize
        patterns = symbols.reshape(-1).view(f"u{planes}")
        stream, coder = _Stream(planes), rangecoder.start_encoding()
        words = np.empty(0, np.uint32)
        for first in range(0, patterns.size, CHUNK):
            values = patterns[first : first + CHUNK].astype(np.int64)
            needed = int(coder[2]) + values.size * planes * _WORST_BITS // 32 + 4
            if needed > words.size:
                words = np.concatenate([words, np.empty(needed + words.size // 2, np.uint32)])
            stream.code_(values, True, coder, words)
        return rangecoder.finish_encoding(coder, words)

    def _decode(self, data: bytes, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Symbols:
        planes = dtype.itemsize
        patterns = np.zeros(int(np.prod(shape)), f"u{planes}")
        stream = _Stream(planes)
        coder, words = rangecoder.start_decoding(data)
        for first in range(0, patterns.size, CHUNK):
            values = np.zeros(min(CHUNK, patterns.size - first), np.int64)
            stream.code_(values, False, coder, words)
            patterns[first : first + CHUNK] = values
        rangecoder.check_end(coder, data)
        return patterns.view(dtype).reshape(shape)
