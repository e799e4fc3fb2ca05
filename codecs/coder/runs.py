"""Runs of symbols under one frequency table, through the range coder."""

# numba types the scalars of kernels, as int64 or uint64; to mypy each would be a third type.
# mypy: disable-error-code="assignment, arg-type, return-value, operator"
from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from squeeze.codecs.coder.rangecoder import Coder, load, put, store_, take
from squeeze.codecs.jit import njit

LOOKUP_BITS = 10


class Table(NamedTuple):
    """Frequencies of symbols 0 ≤ v < n, which add up to 2^bits.

    cumulative: uint64[n + 1], their running sums, from 0.
    lookup: int32[2^LOOKUP_BITS], the values at which a decoder begins to look; see `fill_lookup_`.
    bits: uint64, at least LOOKUP_BITS.
    """

    cumulative: npt.NDArray[np.uint64]
    lookup: npt.NDArray[np.int32]
    bits: np.uint64


@njit(nogil=True, _nrt=False)
def encode_run_(coder_: Coder, values: npt.NDArray[Any], table: Table) -> None:
    """Encode integers [n] under a table, whose lookup is not used."""
    interval = load(coder_.state)
    cumulative = table.cumulative
    for value in values:
        unit = interval.span >> table.bits
        start = cumulative[value]
        width = cumulative[value + 1] - start
        interval = put(interval, coder_.words, unit * start, unit * width)
    store_(coder_.state, interval)


@njit(nogil=True, _nrt=False)
def decode_run_(coder_: Coder, values_: npt.NDArray[Any], table: Table) -> None:
    """Mirror `encode_run_`: fill integers [n]. Stops early past the end of the words."""
    interval = load(coder_.state)
    cumulative, words = table.cumulative, coder_.words
    top = (np.uint64(1) << table.bits) - np.uint64(1)
    shift = table.bits - np.uint64(LOOKUP_BITS)
    for i in range(values_.size):
        unit = interval.span >> table.bits
        target = interval.low // unit
        if target > top:
            target = top
        value = table.lookup[target >> shift]
        while cumulative[value + 1] <= target:
            value += 1
        values_[i] = value
        start = cumulative[value]
        width = cumulative[value + 1] - start
        interval = take(interval, words, unit * start, unit * width)
        if interval.n > words.size + 2:
            break
    store_(coder_.state, interval)


@njit(nogil=True, _nrt=False)
def fill_lookup_(table_: Table) -> None:
    """Fill lookup[j] with the value whose interval holds j·2^(bits - LOOKUP_BITS)."""
    value = 0
    shift = table_.bits - np.uint64(LOOKUP_BITS)
    for j in range(table_.lookup.size):
        target = np.uint64(j) << shift
        while table_.cumulative[value + 1] <= target:
            value += 1
        table_.lookup[j] = value


def make_table(cumulative: npt.NDArray[np.uint64], bits: int) -> Table:
    """Return a table with these running sums, uint64[n + 1], whose lookup is still empty."""
    return Table(cumulative, np.zeros(1 << LOOKUP_BITS, np.int32), np.uint64(bits))
