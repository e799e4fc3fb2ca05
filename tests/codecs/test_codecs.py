"""What every registered codec must do, in one shared check; and what the registry must do."""

from __future__ import annotations

import subprocess
import sys
import tracemalloc

import numba
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import squeeze.codecs as codecs
from squeeze.errors import CorruptData, SqueezeError, UnsupportedFormat

DTYPES = ["int8", "int16", "int32", "uint8", "uint16", "uint32"]
SPARSE = 64 if numba.config.DISABLE_JIT else 1  # plain Python takes minutes for the large arrays
SEED = np.random.default_rng(7)


def check_codec(codec, symbols):
    """Round trip, dtype, shape, determinism, and the input left as it was."""
    if symbols.size and not codec.accepts(symbols):
        with pytest.raises(SqueezeError):
            codec.encode(symbols)
        return None
    before = symbols.copy()
    data = codec.encode(symbols)
    assert isinstance(data, bytes)
    assert data == codec.encode(symbols)
    assert (symbols == before).all()
    back = codec.decode(data, symbols.shape, symbols.dtype)
    assert back.dtype == symbols.dtype and back.shape == symbols.shape
    assert back.flags.c_contiguous and back.flags.writeable
    assert (back == symbols).all()
    return data


def awkward_arrays():
    limits = np.iinfo
    yield "no values", np.zeros(0, np.int8)
    yield "no rows", np.zeros((0, 5), np.int16)
    yield "no columns", np.zeros((5, 0), np.uint8)
    for dtype in DTYPES:
        info = limits(dtype)
        yield f"one symbol {dtype}", np.array([info.max], dtype)
        yield f"one by one {dtype}", np.array([[info.min]], dtype)
        yield f"one-symbol alphabet {dtype}", np.full((9, 31), 3, dtype)
        yield f"extremes {dtype}", np.tile(np.array([info.min, 0, 1, info.max], dtype), 50)
        yield f"zeros {dtype}", np.zeros((40, 3), dtype)
        yield f"gaussian {dtype}", np.abs(SEED.normal(0, 9, (17, 23))).astype(dtype)
    yield "whole int16 range", np.arange(-(2**15), 2**15, SPARSE).astype(np.int16)
    yield "whole int8 range", np.arange(-128, 128).astype(np.int8).reshape(16, 16)
    yield "symbols that never occur", SEED.choice(np.array([-100, 0, 90], np.int8), 500)
    yield "not contiguous", np.arange(600, dtype=np.int16).reshape(20, 30)[::2, ::3]
    yield "big-endian values", np.arange(-5, 50, dtype=np.int16).astype(">i2").astype(np.int16)
    yield "a tall column", SEED.integers(-2, 3, (301, 1)).astype(np.int8)
    yield "a long row", SEED.integers(-2, 3, (1, 301)).astype(np.int8)


AWKWARD = dict(awkward_arrays())


@pytest.mark.parametrize("name", codecs.names())
@pytest.mark.parametrize("case", AWKWARD)
def test_awkward_arrays_come_back(name, case):
    check_codec(codecs.get(name), AWKWARD[case])


arrays = st.sampled_from(DTYPES).flatmap(
    lambda dtype: hnp.arrays(
        dtype,
        hnp.array_shapes(min_dims=1, max_dims=2, min_side=0, max_side=40),
        elements=st.one_of(
            st.integers(0, 3),
            st.integers(max(np.iinfo(dtype).min, -40), 40),
            st.integers(np.iinfo(dtype).min, np.iinfo(dtype).max),
        ),
    )
)


@pytest.mark.parametrize("name", codecs.names())
@given(symbols=arrays)
def test_any_array_comes_back(name, symbols):
    check_codec(codecs.get(name), symbols)


def damaged_decodes_safely(codec, data, symbols):
    try:
        back = codec.decode(data, symbols.shape, symbols.dtype)
    except CorruptData:
        return True
    assert back.shape == symbols.shape and back.dtype == symbols.dtype
    return False


# every codec with every type it accepts, and a few symbols of that type
ACCEPTED = [
    pytest.param(codec, symbols, id=f"{name}-{dtype}")
    for name in codecs.names()
    for dtype in DTYPES
    for codec in [codecs.get(name)]
    for symbols in [np.abs(np.random.default_rng(1).normal(0, 5, (12, 16))).astype(dtype)]
    if codec.accepts(symbols)
]


@pytest.mark.parametrize(("codec", "symbols"), ACCEPTED)
def test_truncation_anywhere_is_corrupt_or_an_array_of_the_right_shape(codec, symbols):
    data = codec.encode(symbols)
    refused = sum(damaged_decodes_safely(codec, data[:n], symbols) for n in range(len(data)))
    assert refused >= len(data) - 8  # only the very end of a stream may go unnoticed


@pytest.mark.parametrize(("codec", "symbols"), ACCEPTED)
def test_a_flipped_byte_is_corrupt_or_an_array_of_the_right_shape(codec, symbols):
    symbols = symbols[:6, :9]
    data = codec.encode(symbols)
    for position in range(len(data)):
        for mask in (0xFF, 0x01, 0x80):
            flipped = bytearray(data)
            flipped[position] ^= mask
            damaged_decodes_safely(codec, bytes(flipped), symbols)


@pytest.mark.parametrize("name", codecs.names())
@given(data=st.binary(min_size=0, max_size=200), dtype=st.sampled_from(DTYPES))
def test_arbitrary_bytes_are_corrupt_or_an_array_of_the_right_shape(name, data, dtype):
    for shape in ((0,), (1,), (7, 11)):
        damaged_decodes_safely(codecs.get(name), data, np.zeros(shape, dtype))


@pytest.mark.parametrize("name", codecs.names())
def test_bytes_left_over_are_corrupt(name):
    codec = codecs.get(name)
    symbols = np.arange(-40, 40, dtype=np.int16).reshape(8, 10)
    with pytest.raises(CorruptData):
        codec.decode(
            codec.encode(symbols) + b"\x01\x02\x03\x04\x05\x06\x07\x08\x09", (8, 10), "int16"
        )


@pytest.mark.parametrize("name", codecs.names())
def test_a_payload_for_a_larger_array_is_not_inflated(name):
    codec = codecs.get(name)
    zeros = np.zeros((2000, 2000 // SPARSE), np.int16)
    data = codec.encode(zeros)[:10_000]
    damaged_decodes_safely(codec, data, zeros[:1, :1])  # loads what is loaded lazily
    tracemalloc.start()
    damaged_decodes_safely(codec, data, zeros[:1, :1])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4_000_000


@pytest.mark.parametrize("name", codecs.names())
def test_values_that_do_not_fit_the_dtype_are_corrupt(name):
    codec = codecs.get(name)
    wide = np.array([[300, -300], [5, 1000]], np.int16)
    with pytest.raises(CorruptData):
        codec.decode(codec.encode(wide), (2, 2), "int8")


@pytest.mark.parametrize("name", codecs.names())
@pytest.mark.parametrize(
    "symbols",
    [
        np.zeros(3),
        np.zeros(3, np.int64),
        np.zeros(3, bool),
        np.int8(1),
        np.zeros((2, 2, 2), np.int8),
    ],
    ids=["float64", "int64", "bool", "0-D", "3-D"],
)
def test_other_arrays_are_refused(name, symbols):
    with pytest.raises(SqueezeError):
        codecs.get(name).encode(np.asarray(symbols))
    with pytest.raises(SqueezeError):
        codecs.get(name).decode(b"1", np.shape(symbols), np.asarray(symbols).dtype)


def test_wire_ids_are_pinned():
    assert {n: codecs.get(n).wire_id for n in codecs.names()} == {
        "raw": 1,
        "zlib": 2,
        "zlib-planes": 3,
        "zlib-transposed": 4,
        "lzma": 5,
        "lzma-planes": 6,
        "lzma-transposed": 7,
        "zstd": 8,
        "zstd-planes": 9,
        "zstd-transposed": 10,
        "brotli": 11,
        "brotli-planes": 12,
        "brotli-transposed": 13,
        "range-gaussian": 32,
        "range-histogram": 33,
        "range-planes": 34,
        "context": 48,
        "context-words": 49,
    }


def test_unknown_names_and_numbers_are_unsupported():
    with pytest.raises(UnsupportedFormat):
        codecs.get("rot13")
    with pytest.raises(UnsupportedFormat):
        codecs.by_wire_id(255)
    for name in codecs.names():
        assert codecs.by_wire_id(codecs.get(name).wire_id) is codecs.get(name)


def test_the_smallest_is_kept_and_a_tie_goes_to_the_lowest_number():
    symbols = np.repeat(np.arange(4, dtype=np.int8), 500).reshape(40, 50)
    sizes = {
        name: len(codecs.get(name).encode(symbols))
        for name in codecs.names()
        if codecs.get(name).accepts(symbols)
    }
    best = codecs.encode_smallest(symbols)
    assert len(best.data) == min(sizes.values()) and sizes[best.name] == len(best.data)
    assert codecs.encode_smallest(symbols, ["brotli", "raw"]).name == "brotli"
    assert codecs.encode_smallest(np.zeros(0, np.int8)).name == "raw"


def test_a_codec_that_does_not_round_trip_is_never_chosen(monkeypatch):
    liar = codecs.get("brotli")
    ones = np.ones(50, np.int8)
    monkeypatch.setattr(liar, "_encode", lambda symbols: type(liar)._encode(liar, ones))
    assert codecs.encode_smallest(np.zeros(50, np.int8), ["raw", "brotli"]).name == "raw"


def test_importing_the_registry_loads_no_heavy_library():
    code = (
        "import sys, squeeze.codecs as c; c.names(); "
        "bad = {'numba', 'torch', 'brotli', 'zstandard'} & set(sys.modules); assert not bad, bad"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
