"""Weights on a grid are recognised and stored without loss; ordinary ones are left alone."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from squeeze.calib.floats import from_bits, round_to
from squeeze.calib.grids import find_grid, pays
from squeeze.calib.round_to_nearest import quantize_rtn


def normal(shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


@given(
    bits=st.sampled_from([2, 3, 4, 6, 8]),
    logical=st.sampled_from(["fp32", "fp16", "bf16"]),
    step_format=st.sampled_from(["fp16", "bf16", "fp32"]),
    seed=st.integers(0, 1000),
)
def test_decoded_integer_weights_come_back_exactly(bits, logical, step_format, seed):
    original = quantize_rtn(normal((7, 64), seed), bits, 3.0, step_format=step_format)
    weights = round_to(original.dequantize(), logical)
    found = find_grid(weights, logical)
    assert found is not None
    assert np.array_equal(found.dequantize(), weights)
    assert (np.abs(found.codes.astype(int)) <= np.abs(original.codes.astype(int))).all()


def test_codes_and_steps_are_those_of_the_export():
    original = quantize_rtn(normal((16, 256)), 6, 12.85)
    found = find_grid(original.dequantize())
    assert np.array_equal(found.codes, original.codes)
    assert np.array_equal(found.steps, original.steps)
    assert found.step_format == "fp16"


def test_steps_are_no_finer_than_they_must_be():
    codes = 3 * np.random.default_rng(1).integers(-9, 10, (5, 80))
    found = find_grid((codes * 0.125).astype(np.float32))
    assert np.array_equal(3 * found.codes.astype(int), codes)


def test_smallest_magnitude_may_be_several_steps():
    weights = np.float32([[0.5, -0.75, 1.25, 0.5]])
    found = find_grid(weights)
    assert found.codes.tolist() == [[2, -3, 5, 2]]
    assert np.array_equal(found.dequantize(), weights)


@pytest.mark.parametrize("logical", ["fp32", "fp16", "bf16"])
def test_ordinary_weights_are_on_no_grid(logical):
    assert find_grid(round_to(normal((4, 384)), logical), logical) is None


def test_one_weight_off_the_grid_is_enough():
    weights = quantize_rtn(normal((8, 128)), 4, 3.0).dequantize()
    weights[-1, -1] *= np.float32(1.001)
    assert find_grid(weights) is None


def test_rows_of_zeros_and_signed_zeros_are_on_every_grid():
    weights = quantize_rtn(normal((4, 32)), 4, 3.0).dequantize()
    weights[[0, 2]] = 0.0
    weights[1, 5] = -0.0
    found = find_grid(weights)
    assert np.array_equal(found.dequantize(), weights)
    assert found.steps[0] == found.steps[2] == found.steps[1]
    assert np.array_equal(find_grid(np.zeros((3, 4), np.float32)).dequantize(), np.zeros((3, 4)))


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (9, 1), (3, 2, 5), (6,), (0, 4), (4, 0)])
def test_small_shapes_keep_their_shape(shape):
    weights = np.sign(normal(shape)) * np.float32(0.1)
    found = find_grid(weights)
    assert found.shape == shape
    assert np.array_equal(found.dequantize(), weights)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_values_that_are_not_finite_are_on_no_grid(bad):
    weights = quantize_rtn(normal((3, 8)), 4, 3.0).dequantize()
    weights[2, 3] = bad
    assert find_grid(weights) is None


def test_steps_too_small_or_too_large_for_fp16_take_another_format():
    codes = np.random.default_rng(2).integers(-7, 8, (4, 40)).astype(np.float32)
    codes[:, 0] = 1.0
    for step in (np.float32(2.0**-40), np.float32(2.0**30)):
        found = find_grid(codes * step)
        assert found.step_format == "bf16"
        assert np.array_equal(from_bits(found.steps, "bf16"), np.full(4, step))


def test_a_grid_pays_where_its_bits_cost_less_loss_elsewhere_than_it_saves():
    """Its extra bits are taken from a tensor so large that the loss there falls along a line."""
    weights, loss, others = 1000, 1.0, 10**9

    def elsewhere(bits):
        return loss / weights * others * 4 ** (-bits / others)

    for extra in (0.0, 0.5, 0.7, 0.74, 1.0):
        dearer = elsewhere(-extra * weights) - elsewhere(0)
        assert pays((2 + extra) * weights, 2.0 * weights, weights) == (dearer <= loss)
