"""A discretised Gaussian: mean and standard deviation in the payload, no table, no learning.

For weights the shape is known, so two numbers replace a histogram; streams of any length are coded
at the model's cost from the first symbol on.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from squeeze.codecs import normal_table
from squeeze.codecs.base import Codec, Symbols, to_dtype
from squeeze.codecs.coder import rangecoder, runs, varint
from squeeze.errors import CorruptData

FRACTION_BITS = 8  # of mean and standard deviation in the payload
TABLE_BITS = 16
REACH = 12  # standard deviations on each side that the table covers; beyond, a symbol escapes
MIN_SIGMA = 1 << FRACTION_BITS - 3
FINE = 16  # a standard deviation above this many symbols sends low bits without coding
CHUNK = 1 << 16  # symbols widened at a time: a multiple of eight, so that low bits start at a byte
_X_BITS = 20  # fractional bits of a standardised value
_MAX_MEAN = 1 << 32 + FRACTION_BITS
_MAX_SIGMA = 1 << 31 + FRACTION_BITS  # no uint32 or int32 deviates by more


def frequency_table(mean: int, sigma: int) -> tuple[int, int, npt.NDArray[np.uint64]]:
    """Return (shift, first, cumulative uint64[n + 2]) for fixed-point mean and σ > 0.

    Table value i stands for the 2^shift symbols from (first + i) << shift on; value n, the last,
    for every other symbol. Frequencies add up to 2^TABLE_BITS and none is zero.

    mean, sigma: with FRACTION_BITS fractional bits.
    """
    shift = max(0, (sigma >> FRACTION_BITS).bit_length() - FINE.bit_length() + 1)
    middle, reach = mean >> FRACTION_BITS + shift, (REACH * sigma >> FRACTION_BITS + shift) + 1
    first, n = middle - reach, 2 * reach + 1
    edges = np.arange(n + 1, dtype=np.int64) + first
    # The lower edge of symbol s is s - ½.
    offset = (edges << FRACTION_BITS + shift) - (1 << FRACTION_BITS - 1) - mean
    limit = sigma * (normal_table.REACH + 1)  # keeps the scaled product far below 2^63
    offset = np.clip(offset, -limit, limit)
    mass = normal_table.distribution((offset << _X_BITS) // sigma, _X_BITS)
    spread = (1 << TABLE_BITS) - (n + 1)
    steps = np.arange(n + 1, dtype=np.int64) + (mass * spread >> normal_table.VALUE_BITS)
    steps -= steps[0]
    return shift, first, np.append(steps, 1 << TABLE_BITS).astype(np.uint64)


def fit(symbols: npt.NDArray[np.int64]) -> tuple[int, int]:
    """Return the mean and σ of integers, FRACTION_BITS each; σ without the effect of rounding.

    Rounding adds 1/12 to the variance (Sheppard), which is taken off again, but never more than a
    third: below σ = ½ the rule would overshoot. Sums are integer, so that the same symbols give the
    same bytes everywhere; values beyond 2^20 lose low bits, too few to change their σ.
    """
    coarse = max(0, int(np.abs(symbols).max()).bit_length() - 20)
    parts = symbols >> coarse
    n, total = parts.size, int(parts.sum())
    squares = sum(int(np.dot(p, p)) for p in np.array_split(parts, 1 + n // (1 << 20)))
    one = 1 << FRACTION_BITS
    variance = (squares * n - total * total) * one * one // (n * n)
    sigma = math.isqrt(variance - min(one * one // 12, variance // 3)) << coarse
    return (total * one // n) << coarse, max(sigma, MIN_SIGMA)


def _to_values(
    symbols: npt.NDArray[np.int64], shift: int, first: int, n: int
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int64]]:
    """Return table values int32[size], and the symbols outside the table, which escape."""
    values = (symbols >> shift) - first
    outside = (values < 0) | (values >= n)
    values[outside] = n
    return values.astype(np.int32), symbols[outside]


class RangeGaussian(Codec):
    """Codec of symbols with a bell-shaped distribution.

    Payload: signed varint mean, varint σ (both with FRACTION_BITS), varint number of escapes,
    escaped symbols (4 bytes each, little-endian, modulo 2^32), low bits (packed), range-coded
    table values.
    """

    name = "range-gaussian"
    wire_id = 32

    def _encode(self, symbols: Symbols) -> bytes:
        wide = symbols.reshape(-1).astype(np.int64)
        mean, sigma = fit(wide)
        shift, first, cumulative = frequency_table(mean, sigma)
        values, escapes = _to_values(wide, shift, first, cumulative.size - 2)
        encoder = rangecoder.start_encoding(values.size * (TABLE_BITS + 1))
        runs.encode_run_(encoder, values, runs.make_table(cumulative, TABLE_BITS))
        return b"".join(
            [
                varint.write_signed(mean),
                varint.write(sigma),
                varint.write(escapes.size),
                (escapes & 0xFFFFFFFF).astype("<u4").tobytes(),
                _pack_low_bits(wide, shift),
                rangecoder.finish_encoding(encoder),
            ]
        )

    def _decode(self, data: bytes, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Symbols:
        size = int(np.prod(shape))
        mean, position = varint.read_signed(data, 0)
        sigma, position = varint.read(data, position)
        if not 0 < sigma <= _MAX_SIGMA or abs(mean) > _MAX_MEAN:
            raise CorruptData(f"{self.name}: mean or deviation out of range")
        shift, first, cumulative = frequency_table(mean, sigma)
        n_escapes, position = varint.read(data, position)
        low_at = position + 4 * n_escapes
        main_at = low_at + (size * shift + 7) // 8
        if main_at > len(data):
            raise CorruptData(f"{self.name}: truncated")
        main = data[main_at:]
        decoder = rangecoder.start_decoding(main)
        values, table = np.zeros(size, np.int32), runs.make_table(cumulative, TABLE_BITS)
        runs.fill_lookup_(table)
        runs.decode_run_(decoder, values, table)
        rangecoder.check_end(decoder, main)

        escape = cumulative.size - 2
        if np.count_nonzero(values == escape) != n_escapes:
            raise CorruptData(f"{self.name}: wrong number of escapes", found=n_escapes)
        escapes = np.frombuffer(data[position:low_at], "<u4")
        if np.dtype(dtype).kind == "i":
            escapes = escapes.astype(np.int32)
        symbols = np.empty(size, dtype)
        taken = 0
        for at in range(0, size, CHUNK):
            part = values[at : at + CHUNK]
            wide = (part.astype(np.int64) + first) << shift
            wide += _unpack_low_bits(data[low_at + at * shift // 8 : main_at], part.size, shift)
            outside = part == escape
            count = int(np.count_nonzero(outside))
            wide[outside] = escapes[taken : taken + count]
            taken += count
            symbols[at : at + CHUNK] = to_dtype(wide, dtype, self.name)
        return symbols.reshape(shape)


def _pack_low_bits(symbols: npt.NDArray[np.int64], shift: int) -> bytes:
    if shift == 0:
        return b""
    bits = symbols[:, None] >> np.arange(shift) & 1
    return np.packbits(bits.astype(np.uint8), bitorder="little").tobytes()


def _unpack_low_bits(packed: bytes, size: int, shift: int) -> npt.NDArray[np.int64]:
    bits = np.unpackbits(np.frombuffer(packed, np.uint8), count=size * shift, bitorder="little")
    return bits.reshape(size, shift).astype(np.int64) @ (1 << np.arange(shift))
