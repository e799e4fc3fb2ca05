"""The compiled range coder against its plain Python oracle, and against its own derivation."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from squeeze.codecs import gaussian, histogram, histogram_reference, normal_table
from squeeze.codecs.coder import rangecoder, runs
from squeeze.codecs.coder.reference import Decoder, Encoder
from squeeze.errors import CorruptData


def table_of(cumulative, bits):
    return runs.make_table(np.array(cumulative, np.uint64), bits)


def kernel_encode(values, cumulative, bits):
    encoder = rangecoder.start_encoding(len(values) * (bits + 1))
    runs.encode_run_(encoder, np.array(values, np.int32), table_of(cumulative, bits))
    return rangecoder.finish_encoding(encoder)


def kernel_decode(data, count, cumulative, bits):
    table = table_of(cumulative, bits)
    runs.fill_lookup_(table)
    decoder = rangecoder.start_decoding(data)
    values = np.zeros(count, np.int32)
    runs.decode_run_(decoder, values, table)
    rangecoder.check_end(decoder, data)
    return values.tolist()


def reference_encode(values, cumulative, bits):
    coder = Encoder()
    for v in values:
        coder.encode(cumulative[v], cumulative[v + 1] - cumulative[v], bits)
    return coder.finish()


def reference_decode(data, count, cumulative, bits):
    coder = Decoder(data)
    values = []
    for _ in range(count):
        target = coder.target(bits)
        v = next(i for i in range(len(cumulative) - 1) if cumulative[i + 1] > target)
        coder.advance(cumulative[v], cumulative[v + 1] - cumulative[v], bits)
        values.append(v)
    return values, coder.ended_exactly()


@st.composite
def tables_and_values(draw):
    bits = draw(st.integers(runs.LOOKUP_BITS, 32))
    n = draw(st.integers(1, 12))
    cuts = draw(st.sets(st.integers(1, (1 << bits) - 1), min_size=n - 1, max_size=n - 1))
    cumulative = [0, *sorted(cuts), 1 << bits]
    return cumulative, bits, draw(st.lists(st.integers(0, n - 1), max_size=200))


@given(tables_and_values())
def test_kernel_and_reference_write_the_same_bytes_and_read_them_back(case):
    cumulative, bits, values = case
    data = reference_encode(values, cumulative, bits)
    assert kernel_encode(values, cumulative, bits) == data
    assert kernel_decode(data, len(values), cumulative, bits) == values
    assert reference_decode(data, len(values), cumulative, bits) == (values, True)


def test_a_carry_runs_through_many_words():
    # Follow the number 0x7fff…ff for k symbols, then take the next symbol up: `low` crosses
    # 0x8000…00, so every word written so far must change.
    cumulative, bits = [i << 6 for i in range(1025)], 16
    path, _ = reference_decode(b"\x7f" + b"\xff" * 31, 24, cumulative, bits)
    longest = 0
    for k in range(1, 24):
        values = [*path[:k], path[k] + 1]
        data = reference_encode(values, cumulative, bits)
        assert kernel_encode(values, cumulative, bits) == data
        assert kernel_decode(data, len(values), cumulative, bits) == values
        if data.startswith(b"\x80"):
            longest = max(longest, len(data) - len(data[1:].lstrip(b"\0")))
    assert longest > 12  # three whole words were rewritten


@given(st.lists(st.integers(0, 255), max_size=64), st.integers(1, 60))
def test_random_bytes_decode_alike_in_kernel_and_reference(data, count):
    cumulative, bits = [0, 1, 40000, 40001, 65000, 65536], 16
    data = bytes(data)
    values, exact = reference_decode(data, count, cumulative, bits)
    if exact:
        assert kernel_decode(data, count, cumulative, bits) == values
    else:
        with pytest.raises(CorruptData):
            kernel_decode(data, count, cumulative, bits)


@given(
    st.integers(1, 300).flatmap(
        lambda n: st.tuples(st.just(n), st.lists(st.integers(0, n - 1), max_size=400))
    )
)
def test_histogram_kernel_and_reference_agree(case):
    alphabet, values = case
    data = histogram_reference.encode_values(values, alphabet)
    assert histogram.encode_values(np.array(values, np.int32), alphabet) == data
    assert histogram.decode_values(data, len(values), alphabet).tolist() == values
    assert histogram_reference.decode_values(data, len(values), alphabet) == values


def test_histogram_forgets_the_same_way_in_kernel_and_reference():
    values = np.random.default_rng(3).integers(0, 4, 90_000, dtype=np.int32)
    assert values.size * histogram.INCREMENT > histogram.LARGEST_TOTAL
    data = histogram.encode_values(values, 5)
    assert histogram_reference.encode_values(values.tolist(), 5) == data


@given(st.lists(st.integers(-300, 300), min_size=1, max_size=100))
def test_gaussian_kernel_and_reference_agree(symbols):
    symbols = np.array(symbols, np.int16)
    data = gaussian.RangeGaussian().encode(symbols)
    wide = symbols.astype(np.int64)
    shift, first, cumulative = gaussian.frequency_table(*gaussian.fit(wide))
    values = [min(max(0, v), cumulative.size - 2) for v in ((wide >> shift) - first).tolist()]
    stream = reference_encode(values, [int(c) for c in cumulative], gaussian.TABLE_BITS)
    assert data.endswith(stream)


def test_normal_table_meets_known_values():
    # Abramowitz & Stegun, table 26.1.
    grid = normal_table.half_table() / 2**normal_table.VALUE_BITS
    for x, phi in ((0, 0.5), (1, 0.841344746069), (2, 0.977249868052), (3, 0.998650101968)):
        assert grid[x << normal_table.GRID_BITS] + 0.5 == pytest.approx(phi, abs=1e-9)
    x = np.arange(10 << 20, step=977, dtype=np.int64)
    above, below = normal_table.distribution(x, 20), normal_table.distribution(-x, 20)
    assert (np.diff(above) >= 0).all() and above[-1] == 1 << normal_table.VALUE_BITS
    assert (above + below == 1 << normal_table.VALUE_BITS).all()


@pytest.mark.parametrize("sigma", [1, 33, 256, 640, 5000, 1 << 20, 1 << 39])
@pytest.mark.parametrize("mean", [0, 100, -77777, 1 << 40, -(1 << 40)])
def test_gaussian_tables_leave_no_symbol_without_a_frequency(sigma, mean):
    shift, _, cumulative = gaussian.frequency_table(mean, sigma)
    steps = np.diff(cumulative.astype(np.int64))
    assert steps.min() >= 1 and cumulative[0] == 0 and cumulative[-1] == 1 << gaussian.TABLE_BITS
    assert cumulative.size < 2000 and 0 <= shift < 64


@pytest.mark.parametrize("sigma", [0.3, 1.0, 3.0, 40.0])
def test_real_output_is_within_two_per_mille_of_the_models_code_length(sigma):
    symbols = np.random.default_rng(5).normal(0.3, sigma, 120_000).round().astype(np.int16)
    wide = symbols.astype(np.int64)
    shift, first, cumulative = gaussian.frequency_table(*gaussian.fit(wide))
    escape = cumulative.size - 2
    values = (wide >> shift) - first
    values[(values < 0) | (values >= escape)] = escape
    shares = np.diff(cumulative.astype(np.int64))[values] / 2**gaussian.TABLE_BITS
    beside = wide.size * shift + 32 * (values == escape).sum()  # low bits, and escaped symbols
    modelled = (beside - np.log2(shares).sum()) / 8
    real = len(gaussian.RangeGaussian().encode(symbols))
    assert modelled - 1 <= real <= 1.002 * modelled


def test_an_adaptive_histogram_is_near_the_entropy_of_a_still_source():
    symbols = np.random.default_rng(6).normal(0, 3, 200_000).round().astype(np.int8)
    share = np.unique(symbols, return_counts=True)[1] / symbols.size
    entropy = -(share * np.log2(share)).sum() * symbols.size / 8
    real = len(histogram.RangeHistogram().encode(symbols))
    assert entropy < real < 1.002 * entropy


def test_model_bytes_are_pinned():
    symbols = np.array([[0, 1, -1, 0], [2, 0, -7, 30]], np.int8)
    coders = gaussian.RangeGaussian(), histogram.RangeHistogram(), histogram.RangePlanes()
    assert [coder.encode(symbols).hex() for coder in coders] == [
        "c00cf714006148e98ec45e",
        "0d25309a8c6d4f23",
        "080001ff0001fff91c",
    ]
