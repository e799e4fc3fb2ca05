"""Trellis GPTQ and water-filled steps: against a plain reference, and the gains they are for."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from squeeze.calib.allocation.waterfill import (
    LARGEST_STEP,
    Steps,
    expected_loss,
    waterfill,
    waterfill_cheaply,
)
from squeeze.calib.quantizers.gptq import gptq
from squeeze.calib.quantizers.trellis_gptq import TrellisOptions, trellis_gptq
from squeeze.calib.statistics.curvature import factorize, proxy_loss
from squeeze.codecs.trellis.reference import search_reference
from squeeze.errors import BadConfig, BadData


def correlated(seed, n_rows, n_cols, spread=1.0):
    """Weights [R, C] and the Hessian of correlated inputs whose energies span octaves."""
    rng = np.random.default_rng(seed)
    mix = rng.standard_normal((n_cols, n_cols)) * np.exp2(spread * rng.standard_normal(n_cols))
    x = rng.standard_normal((4 * n_cols, n_cols)) @ mix
    weights = rng.standard_normal((n_rows, n_cols)).astype(np.float32)
    return weights, (x.T @ x / len(x)).astype(np.float32)


def entropy(codes):
    counts = np.unique(codes, return_counts=True)[1]
    return float(-(counts * np.log2(counts / counts.sum())).sum())


def by_the_book(weights, hessian, step, n_states):
    """Each column searched by the plain Viterbi, then the whole inverse Hessian updated."""
    work = weights.astype(np.float64)
    damped = hessian.astype(np.float64)
    damped += 0.03 * damped.diagonal().mean() * np.eye(len(damped))
    inverse = np.linalg.inv(damped)
    chosen = np.zeros(weights.shape)
    free = [[0.0] * 1000]
    for j in np.argsort(-hessian.diagonal(), kind="stable"):
        column = (work[:, j] / step).tolist()
        ones, zeros = [1.0] * len(column), [0] * len(column)
        chosen[:, j] = search_reference(column, ones, free, zeros, n_states)
        error = (work[:, j] - chosen[:, j] * step) / inverse[j, j]
        work -= np.outer(error, inverse[j])
        inverse = inverse - np.outer(inverse[:, j], inverse[j]) / inverse[j, j]
    return (chosen * step).astype(np.float32)


@given(st.integers(0, 99), st.integers(1, 24), st.integers(1, 9), st.sampled_from([4, 8, 32]))
def test_without_a_rate_term_it_is_the_reference(seed, n_rows, n_cols, n_states):
    weights, hessian = correlated(seed, n_rows, n_cols)
    steps = np.full(n_rows, 0.25, np.float32)
    result = trellis_gptq(
        weights, factorize(hessian), steps, options=TrellisOptions(n_states=n_states, lam=0.0)
    )
    expected = by_the_book(weights, hessian, 0.25, n_states)
    assert proxy_loss(weights - result.tensor.dequantize(), hessian) == pytest.approx(
        proxy_loss(weights - expected, hessian), rel=1e-4
    )


def test_trellis_loses_less_than_scalar_at_the_same_bits():
    weights, hessian = correlated(1, 256, 48, spread=0.0)
    factor = factorize(hessian)
    scalar = gptq(weights, factor, 8, np.full(256, 0.4, np.float32))
    result = trellis_gptq(
        weights, factor, np.full(256, 0.208, np.float32), options=TrellisOptions(lam=0.2)
    )
    assert result.bits < entropy(scalar.codes)
    loss = [proxy_loss(weights - t.dequantize(), hessian) for t in (result.tensor, scalar)]
    assert loss[0] < 0.85 * loss[1]


def test_more_states_lose_less():
    weights, hessian = correlated(2, 512, 24)
    factor, steps = factorize(hessian), np.full(512, 0.3, np.float32)
    results = [
        trellis_gptq(weights, factor, steps, options=TrellisOptions(n_states=s))
        for s in (4, 32, 256)
    ]
    losses = [proxy_loss(weights - r.tensor.dequantize(), hessian) for r in results]
    assert losses[0] > losses[1] > losses[2]


def test_a_higher_price_buys_fewer_bits():
    weights, hessian = correlated(3, 128, 24)
    factor, steps = factorize(hessian), np.full(128, 0.5, np.float32)
    bits = [
        trellis_gptq(weights, factor, steps, options=TrellisOptions(lam=lam)).bits
        for lam in (0.0, 0.2, 0.8)
    ]
    assert bits[0] > bits[1] > bits[2]


def test_water_filling_loses_less_than_equal_steps_at_the_same_bits():
    weights, hessian = correlated(4, 256, 48, spread=1.5)
    importance = np.exp2(np.random.default_rng(0).uniform(-6, 0, 256)).astype(np.float32)
    factor = factorize(hessian)

    def at(steps):
        result = trellis_gptq(weights, factor, steps.rows, steps.columns)
        delta = weights - result.tensor.dequantize()
        return result.bits, expected_loss(delta, hessian, importance)

    equal_bits, equal_loss = at(Steps(np.full(256, 0.25, np.float32), np.zeros(48, np.int8)))
    scale = 0.01
    while (filled := at(waterfill(weights, factor, importance, scale)))[0] > equal_bits:
        scale *= 1.05
    assert filled[1] < 0.6 * equal_loss


@given(st.integers(0, 99), st.floats(1e-6, 1e3))
def test_water_filled_steps_cost_the_same_loss_everywhere(seed, scale):
    rng = np.random.default_rng(seed)
    weights, hessian = correlated(seed, 7, 12)
    weights *= 1e9  # never capped
    factor, importance = factorize(hessian), rng.uniform(0.1, 1, 7).astype(np.float32)
    steps = waterfill(weights, factor, importance, scale)
    floored = importance + 0.05 * importance.mean()
    costs = (
        np.outer(floored, factor.weights)
        * np.outer(steps.rows.astype(np.float64), np.exp2(steps.columns / 8)) ** 2
    )
    off = np.log2(costs / scale**2) / 2  # in octaves of the step
    assert np.abs(off).max() <= 2 / 16 + 1e-6


@given(st.integers(0, 99), st.floats(1e-6, 1e3), st.sampled_from([(40, 1), (130, 2)]))
def test_steps_of_short_rows_are_in_octaves_of_each_other(seed, scale, width):
    columns, parts = width
    weights, hessian = correlated(seed, 9, columns)
    weights *= 1e9  # never capped
    importance = np.exp2(np.random.default_rng(seed).uniform(-6, 0, 9)).astype(np.float32)
    importance[:4] = 0  # four rows of one step
    factor = factorize(hessian)
    exact, cheap = (
        fill(weights, factor, importance, scale) for fill in (waterfill, waterfill_cheaply)
    )
    off = np.log2(cheap.rows / exact.rows)
    assert np.abs(off).max() <= 0.5 / parts + 1 / 16 + 1e-5
    octaves = parts * np.log2(cheap.rows / cheap.rows[0])
    assert np.abs(octaves - np.rint(octaves)).max() < 1e-4
    # none jumps where the scale moves a little
    moved = waterfill_cheaply(weights, factor, importance, scale * 1.001)
    np.testing.assert_allclose(moved.rows, cheap.rows * 1.001, rtol=1e-5)


def test_steps_of_wide_rows_stay_as_they_are():
    weights, hessian = correlated(3, 5, 300)
    filled = waterfill(weights, factorize(hessian), np.ones(5, np.float32), 0.1)
    same = waterfill_cheaply(weights, factorize(hessian), np.ones(5, np.float32), 0.1)
    np.testing.assert_array_equal(filled.rows, same.rows)


def test_rows_that_do_not_matter_get_capped_steps_and_zero_codes():
    weights, hessian = correlated(5, 6, 8)
    factor = factorize(hessian)
    steps = waterfill(weights, factor, np.zeros(6, np.float32), 1.0)
    assert steps.rows.max() <= LARGEST_STEP * np.abs(weights).max() * 1.1
    result = trellis_gptq(weights, factor, steps.rows, np.zeros(8, np.int8))
    assert not result.tensor.codes.any()


def test_expected_loss_is_half_the_quadratic_form():
    weights, hessian = correlated(6, 3, 4)
    importance = np.array([1.0, 0.5, 0.0], np.float32)
    direct = sum(
        0.5 * g * float(row @ hessian @ row) for g, row in zip(importance, weights, strict=True)
    )
    assert expected_loss(weights, hessian, importance) == pytest.approx(direct, rel=1e-5)


@pytest.mark.parametrize("shape", [(1, 7), (7, 1), (1, 1), (0, 3), (3, 2, 2)])
def test_small_shapes_keep_their_shape(shape):
    weights = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    n_cols = int(np.prod(shape[1:]))
    factor = factorize(np.eye(n_cols, dtype=np.float32))
    steps = waterfill(
        weights.reshape(shape[0], n_cols), factor, np.ones(shape[0], np.float32), 0.01
    )
    result = trellis_gptq(weights, factor, steps.rows, steps.columns)
    restored = result.tensor.dequantize()
    assert restored.shape == shape
    assert np.allclose(restored, weights, atol=0.03)


def test_zero_weights_dead_columns_and_zero_hessians():
    weights, hessian = correlated(7, 20, 6)
    hessian[2], hessian[:, 2] = 0, 0
    steps = np.full(20, 0.1, np.float32)
    dead = trellis_gptq(weights, factorize(hessian), steps).tensor.dequantize()
    nothing = trellis_gptq(weights * 0, factorize(hessian), steps).tensor.dequantize()
    blind = trellis_gptq(weights, factorize(hessian * 0), steps).tensor.dequantize()
    assert np.abs(dead[:, 2]).max() <= 0.4  # zeros, but for what the trellis gains by a detour
    assert not nothing.any()
    assert np.abs(blind - weights).max() < 0.4


def test_codes_beyond_a_byte_are_two_bytes_wide():
    weights, hessian = correlated(8, 40, 3)
    result = trellis_gptq(weights, factorize(hessian), np.full(40, 2.0**-10, np.float32))
    assert result.tensor.codes.dtype == np.int16
    assert np.abs(result.tensor.dequantize() - weights).max() < 2.0**-6


def test_same_codes_twice():
    weights, hessian = correlated(9, 64, 40)
    first, second = (
        trellis_gptq(weights, factorize(hessian), np.full(64, 0.3, np.float32)) for _ in range(2)
    )
    assert (first.tensor.codes == second.tensor.codes).all()
    assert first.bits == second.bits


def test_bad_arguments_are_refused_by_name():
    weights, hessian = correlated(0, 4, 6)
    factor, steps = factorize(hessian), np.ones(4, np.float32)
    with pytest.raises(BadConfig, match="states"):
        trellis_gptq(weights, factor, steps, options=TrellisOptions(n_states=5))
    with pytest.raises(BadConfig, match="lam"):
        trellis_gptq(weights, factor, steps, options=TrellisOptions(lam=-1.0))
    with pytest.raises(BadData, match="too large for their step"):
        trellis_gptq(weights, factor, steps * 1e-5)
    with pytest.raises(BadData, match="not finite"):
        trellis_gptq(weights * np.inf, factor, steps)
    with pytest.raises(BadConfig, match="scale"):
        waterfill(weights, factor, steps, 0.0)
    with pytest.raises(BadData, match="not match this matrix"):
        waterfill(weights, factor, steps[:3], 1.0)
    with pytest.raises(BadData, match="output gradients"):
        waterfill(weights, factor, steps * np.nan, 1.0)
