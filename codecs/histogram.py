"""Adaptive histograms: symbol frequencies learnt on the way, nothing in the payload but the range.

`range-histogram` counts values; `range-planes` counts each byte plane of wide values, which suits
bit patterns of floats: the plane with sign and exponent is skewed, the lowest is noise.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from squeeze.codecs.base import Codec, Symbols, to_dtype
from squeeze.codecs.coder import rangecoder, runs, varint
from squeeze.codecs.jit import njit
from squeeze.errors import CorruptData

MAX_ALPHABET = 1 << 16
INCREMENT = 8  # of a count by an occurrence; every symbol starts at 1
FIRST_BLOCK = 16
BLOCK = 4096
LARGEST_TOTAL = 1 << 19  # sum of counts; beyond it all are halved, so 64k symbols are remembered


def table_bits(alphabet: int) -> int:
    """Return log2 of the frequency total: room for at least 16 units a symbol."""
    return 16 if alphabet <= 1 << 12 else 20


@njit(nogil=True, _nrt=False)
def _fill_cumulative_(table_: runs.Table, counts: npt.NDArray[np.uint32]) -> None:
    """Scale the counts' running sum, giving each symbol one unit first: no frequency is zero."""
    cumulative_ = table_.cumulative
    alphabet = np.uint64(counts.size)
    total = np.uint64(0)
    for count in counts:
        total += np.uint64(count)
    spread = (np.uint64(1) << table_.bits) - alphabet
    below = np.uint64(0)
    for i in range(counts.size):
        cumulative_[i] = np.uint64(i) + below * spread // total
        below += np.uint64(counts[i])
    cumulative_[counts.size] = np.uint64(1) << table_.bits


@njit(nogil=True, _nrt=False)
def _learn_(counts_: npt.NDArray[np.uint32], values: npt.NDArray[np.int32]) -> None:
    """Count values; halve all counts where their sum has grown too large."""
    for value in values:
        counts_[value] += np.uint32(INCREMENT)
    total = np.int64(0)
    for count in counts_:
        total += np.int64(count)
    if total > max(LARGEST_TOTAL, 4 * INCREMENT * counts_.size):
        for i in range(counts_.size):
            counts_[i] = (counts_[i] >> np.uint32(1)) | np.uint32(1)


@njit(nogil=True)
def _code_adaptive_(
    coder_: rangecoder.Coder, values_: npt.NDArray[np.int32], alphabet: int, bits: np.uint64
) -> None:
    """Encode int32[n], or decode into them; stops early past the end of the words."""
    counts = np.ones(alphabet, np.uint32)
    lookup = np.empty(1 << runs.LOOKUP_BITS, np.int32)
    table = runs.Table(np.empty(alphabet + 1, np.uint64), lookup, bits)
    start, block = 0, FIRST_BLOCK
    while start < values_.size:
        run = values_[start : start + block]
        _fill_cumulative_(table, counts)
        if coder_.encoding:
            runs.encode_run_(coder_, run, table)
        else:
            runs.fill_lookup_(table)
            runs.decode_run_(coder_, run, table)
            if coder_.state[2] > np.uint64(coder_.words.size + 2):
                break
        _learn_(counts, run)
        start += block
        block = min(2 * block, max(BLOCK, 4 * alphabet))


def encode_values(values: npt.NDArray[np.int32], alphabet: int) -> bytes:
    """Encode int32[n], 0 ≤ value < alphabet ≤ MAX_ALPHABET. One-symbol alphabets cost nothing."""
    if alphabet == 1:
        return b""
    bits = table_bits(alphabet)
    encoder = rangecoder.start_encoding(values.size * (bits + 1))
    _code_adaptive_(encoder, values, alphabet, np.uint64(bits))
    return rangecoder.finish_encoding(encoder)


def decode_values(data: bytes, count: int, alphabet: int) -> npt.NDArray[np.int32]:
    """Mirror `encode_values`: return int32[count]. Raises CorruptData."""
    values = np.zeros(count, np.int32)
    if alphabet == 1:
        if data:
            raise CorruptData("range-histogram: bytes for a one-symbol alphabet")
        return values
    decoder = rangecoder.start_decoding(data)
    _code_adaptive_(decoder, values, alphabet, np.uint64(table_bits(alphabet)))
    rangecoder.check_end(decoder, data)
    return values


class RangeHistogram(Codec):
    """Codec that counts values.

    Payload: signed varint lowest value, varint highest - lowest, range-coded stream.
    """

    name = "range-histogram"
    wire_id = 33

    def accepts(self, symbols: Symbols) -> bool:
        return int(symbols.max()) - int(symbols.min()) < MAX_ALPHABET

    def _encode(self, symbols: Symbols) -> bytes:
        lowest, highest = int(symbols.min()), int(symbols.max())
        alphabet = highest - lowest + 1
        values = (symbols.reshape(-1).astype(np.int64) - lowest).astype(np.int32)
        head = varint.write_signed(lowest) + varint.write(alphabet - 1)
        return head + encode_values(values, alphabet)

    def _decode(self, data: bytes, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Symbols:
        return decode_histogram(data, shape, dtype)


def decode_histogram(data: bytes, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Symbols:
    """Return the values of a payload of RangeHistogram, at least one. Raises CorruptData."""
    lowest, position = varint.read_signed(data, 0)
    span, position = varint.read(data, position)
    if span >= MAX_ALPHABET:
        raise CorruptData("range-histogram: alphabet too large", found=span + 1)
    values = decode_values(data[position:], int(np.prod(shape)), span + 1)
    return to_dtype(values, dtype, "range-histogram", lowest).reshape(shape)


class RangePlanes(Codec):
    """Codec that counts the bytes of each plane.

    Payload, for each byte plane from the highest: varint length, range-coded stream.
    """

    name = "range-planes"
    wire_id = 34

    def _encode(self, symbols: Symbols) -> bytes:
        words = symbols.astype(symbols.dtype.newbyteorder("<"), copy=False).reshape(-1)
        planes = words.view(np.uint8).reshape(symbols.size, -1)
        payload = b""
        for plane in planes.T[::-1]:
            stream = encode_values(plane.astype(np.int32), 256)
            payload += varint.write(len(stream)) + stream
        return payload

    def _decode(self, data: bytes, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Symbols:
        return decode_planes(data, shape, dtype)


def decode_planes(data: bytes, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Symbols:
    """Return the words of a payload of RangePlanes, at least one. Raises CorruptData."""
    planes = np.empty((int(np.prod(shape)), dtype.itemsize), np.uint8)
    position = 0
    for plane in planes.T[::-1]:
        length, position = varint.read(data, position)
        if length > len(data) - position:
            raise CorruptData("range-planes: truncated")
        plane[:] = decode_values(data[position : position + length], plane.size, 256)
        position += length
    if position != len(data):
        raise CorruptData("range-planes: bytes left over", found=len(data) - position)
    return planes.view(dtype.newbyteorder("<")).astype(dtype).reshape(shape)
