"""Floats of fewer mantissa bits: nearest, size in step with the bits, exact at the end."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from squeeze.calib.quantizers.mantissa import MANTISSA, head_bits, round_mantissas
from squeeze.codecs import get
from squeeze.errors import BadConfig

WEIGHTS = np.random.default_rng(0).standard_normal((64, 48)).astype(np.float32)


@given(st.floats(0, MANTISSA))
def test_the_error_is_half_a_unit_of_the_last_bit_kept(bits: float) -> None:
    error = np.abs(round_mantissas(WEIGHTS, bits) - WEIGHTS)
    unit = np.exp2(np.floor(np.log2(np.abs(WEIGHTS))) - int(bits))
    assert (error <= unit / 2).all()


def test_all_bits_change_nothing() -> None:
    assert round_mantissas(WEIGHTS, MANTISSA).tobytes() == WEIGHTS.tobytes()
    assert round_mantissas(np.zeros((0, 3), np.float32), 5).shape == (0, 3)


def test_a_fraction_of_a_bit_is_a_bit_more_for_that_fraction_of_the_weights() -> None:
    mixed = round_mantissas(WEIGHTS, 4.25).ravel()
    quarter = WEIGHTS.size // 4
    assert np.array_equal(mixed[:quarter], round_mantissas(WEIGHTS, 5).ravel()[:quarter])
    assert np.array_equal(mixed[quarter:], round_mantissas(WEIGHTS, 4).ravel()[quarter:])


def test_the_largest_floats_stay_finite() -> None:
    largest = np.array([np.finfo(np.float32).max, -np.finfo(np.float32).max], np.float32)
    assert np.isfinite(round_mantissas(largest, 3)).all()


@pytest.mark.parametrize("bits", [-0.1, 23.5, float("nan")])
def test_bits_out_of_range_are_refused(bits: float) -> None:
    with pytest.raises(BadConfig, match="mantissa bits"):
        round_mantissas(WEIGHTS, bits)


def coded_bits(weights: npt.NDArray[np.float32], bits: float) -> float:
    words = round_mantissas(weights, bits).view(np.uint32)
    return 8 * len(get("range-planes").encode(words)) / words.size


def test_the_coded_size_is_what_the_bits_say_and_has_no_jumps() -> None:
    weights = np.random.default_rng(1).standard_normal(100_000).astype(np.float32)
    for bits in (9, 16):
        assert coded_bits(weights, bits) == pytest.approx(bits + head_bits(weights), abs=0.1)
    sizes = [coded_bits(weights, bits) for bits in np.linspace(12, 13, 21)]
    assert all(0 < larger - smaller < 0.25 for smaller, larger in pairwise(sizes))
