"""Weights on a grid are recognised and stored without loss; ordinary ones are left alone."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from squeeze.calib.quantizers.grids import find_grid, worth_keeping
from squeeze.calib.quantizers.round_to_nearest import quantize_rtn
from squeeze.tensors.floats import from_bits, round_to


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


def exhaustive(extra, losses, weights):
    """The least expected loss over every set of tensors kept on their grids."""
    found = []
    for count in range(len(extra) + 1):
        for kept in itertools.combinations(sorted(extra), count):
            rest = [name for name in losses if name not in kept]
            taken, room = sum(extra[n] for n in kept), sum(weights[n] for n in rest)
            if taken <= room:
                loss = sum(losses[n] for n in rest) * 4.0 ** (taken / max(room, 1))
                found.append((loss, kept))
    return min(found)


@pytest.mark.parametrize("seed", range(12))
def test_grids_are_kept_where_their_bits_cost_less_loss_elsewhere_than_they_save(seed):
    random = np.random.default_rng(seed)
    names = [f"t{i}" for i in range(7)]
    weights = {n: int(random.integers(1_000, 9_000)) for n in names}
    losses = {n: float(random.lognormal(-6, 1)) for n in names}
    extra = {n: float(weights[n] * random.uniform(-0.2, 2.5)) for n in names[:5]}
    kept = worth_keeping(extra, losses, weights)
    rest = [name for name in losses if name not in kept]
    taken, room = sum(extra[n] for n in kept), sum(weights[n] for n in rest)
    reached = sum(losses[n] for n in rest) * 4.0 ** (taken / room)
    least, _ = exhaustive(extra, losses, weights)
    assert reached <= sum(losses.values())
    assert reached <= 1.1 * least


def test_grids_that_cost_too_much_or_nothing_are_told_apart():
    weights, losses = {"a": 1000, "b": 1000}, {"a": 0.01, "b": 0.01}
    assert worth_keeping({"a": 5000.0}, losses, weights) == []
    assert worth_keeping({"a": -10.0}, losses, weights) == ["a"]
    assert worth_keeping({}, losses, weights) == []
    assert worth_keeping({"a": 0.0, "b": 0.0}, losses, weights) == ["a", "b"]
