"""GPTQ, GPTQ-lite and the factor of the Hessian, against a plain reference and against each other."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from squeeze.calib.quantizers.gptq import BLOCK, gptq, gptq_reference
from squeeze.calib.quantizers.gptq_lite import lite_steps
from squeeze.calib.quantizers.round_to_nearest import quantize_rtn, row_steps
from squeeze.calib.quantizers.trellis_gptq import TrellisOptions, trellis_gptq
from squeeze.calib.statistics.curvature import factorize, proxy_loss
from squeeze.errors import BadConfig, BadData
from squeeze.tensors.floats import from_bits, round_to


def correlated(seed, n_rows, n_cols, rank=None):
    """Weights [R, C] and the Hessian of inputs that live near a subspace."""
    rng = np.random.default_rng(seed)
    mix = rng.standard_normal((rank or max(1, n_cols // 2), n_cols))
    x = rng.standard_normal((4 * n_cols, len(mix))) @ mix
    if rank is None:
        x += 0.3 * rng.standard_normal(x.shape)
    hessian = (x.T @ x / len(x)).astype(np.float32)
    return rng.standard_normal((n_rows, n_cols)).astype(np.float32), hessian


@given(st.integers(0, 1000), st.integers(1, 20), st.integers(1, 40), st.sampled_from([3, 4, 6, 9]))
def test_proxy_loss_matches_the_reference(seed, n_rows, n_cols, bits):
    weights, hessian = correlated(seed, n_rows, n_cols)
    steps = round_to(row_steps(weights, bits, None), "fp16")
    result = gptq(weights, factorize(hessian, 0.01), bits, steps)
    expected = gptq_reference(weights, hessian, bits, steps, 0.01) * steps[:, None].astype(
        np.float64
    )
    ours = proxy_loss(weights - result.dequantize(), hessian)
    plain = proxy_loss((weights - expected).astype(np.float32), hessian)
    assert ours == pytest.approx(plain, rel=1e-4, abs=1e-9)


def test_proxy_loss_matches_the_reference_to_1e_4_over_several_blocks():
    weights, hessian = correlated(7, 96, 2 * BLOCK + 37)
    steps = round_to(row_steps(weights, 6, 3.0), "fp16")
    result = gptq(weights, factorize(hessian, 0.01), 6, steps)
    plain = gptq_reference(weights, hessian, 6, steps, 0.01) * steps[:, None].astype(np.float64)
    ours = proxy_loss(weights - result.dequantize(), hessian)
    assert ours == pytest.approx(
        proxy_loss((weights - plain).astype(np.float32), hessian), rel=1e-4
    )


def rounded_lite(weights, bits):
    """Weights rounded to the nearest multiple of the steps of GPTQ-lite, and clipped."""
    steps, q_max = lite_steps(weights, bits)[:, None], 2 ** (bits - 1) - 1
    return np.clip(np.rint(weights / steps), -q_max, q_max) * steps


def test_gptq_beats_lite_beats_nearest_where_inputs_are_correlated():
    weights, hessian = correlated(3, 64, 96)
    weights[:, 0] *= 6  # an outlier per row, so that clipping pays
    nearest = quantize_rtn(weights, 4).dequantize()
    lite = rounded_lite(weights, 4)
    full = gptq(weights, factorize(hessian), 4, lite_steps(weights, 4)).dequantize()
    error = [((weights - values) ** 2).sum() for values in (lite, nearest)]
    assert error[0] <= error[1]
    loss = [proxy_loss(weights - values, hessian) for values in (full, lite)]
    assert loss[0] < 0.6 * loss[1]


def test_lite_picks_the_best_of_its_clips_in_every_row():
    rng = np.random.default_rng(5)
    matrix = rng.standard_t(3, (20, 3000)).astype(np.float32)
    chosen = rounded_lite(matrix, 5)
    for percentile in (0.999, 0.9995, 0.9999, 0.99999, 1.0):
        steps = round_to(
            (np.quantile(np.abs(matrix), percentile, axis=1) / 15).astype(np.float32), "fp16"
        )[:, None]
        other = np.clip(np.rint(matrix / steps), -15, 15) * steps
        better = ((matrix - chosen) ** 2).sum(1) <= ((matrix - other) ** 2).sum(1) * (1 + 1e-5)
        assert better.all()


def test_codes_are_chosen_for_the_step_that_ships():
    weights, hessian = correlated(1, 8, 1)
    steps = np.full(8, 0.1234567, np.float32)
    result = gptq(weights, factorize(hessian), 8, steps)
    shipped = from_bits(result.steps, "fp16")
    assert shipped[0] != steps[0]
    assert (result.codes[:, 0] == np.rint(weights[:, 0] / shipped)).all()


@pytest.mark.parametrize("act_order", [True, False])
def test_factor_is_that_of_the_damped_inverse(act_order):
    _, hessian = correlated(2, 1, 30)
    factor = factorize(hessian, 0.05, act_order)
    damped = hessian.astype(np.float64) + 0.05 * hessian.diagonal().mean() * np.eye(30)
    damped = damped[np.ix_(factor.order, factor.order)]
    assert np.allclose(factor.upper.T @ factor.upper @ damped, np.eye(30), atol=1e-6)
    assert (np.tril(factor.upper, -1) == 0).all()
    assert (factor.order == np.arange(30)).all() != act_order


def test_last_column_costs_its_whole_diagonal():
    _, hessian = correlated(2, 1, 30)
    factor = factorize(hessian, 0.01)
    last = factor.order[-1]
    damped = hessian[last, last] + 0.01 * hessian.diagonal().mean()
    assert factor.weights[last] == pytest.approx(damped, rel=1e-5)


def test_singular_hessian_is_handled():
    weights, hessian = correlated(4, 10, 24, rank=3)
    result = gptq(weights, factorize(hessian), 4, row_steps(weights, 4, None))
    nearest = quantize_rtn(weights, 4)
    loss = [proxy_loss(weights - q.dequantize(), hessian) for q in (result, nearest)]
    assert loss[0] < loss[1]


def test_zero_hessian_means_round_to_nearest():
    weights, _ = correlated(4, 10, 24)
    result = gptq(
        weights, factorize(np.zeros((24, 24), np.float32)), 4, row_steps(weights, 4, None)
    )
    assert (result.codes == quantize_rtn(weights, 4).codes).all()


def test_dead_columns_become_zero_and_leave_the_others_alone():
    weights, hessian = correlated(6, 10, 24)
    alive = np.r_[0:5, 6:24]
    hessian[5], hessian[:, 5] = 0, 0
    steps = row_steps(weights, 6, None)
    result = gptq(weights, factorize(hessian), 6, steps)
    without = gptq(weights[:, alive], factorize(hessian[np.ix_(alive, alive)]), 6, steps)
    assert (result.codes[:, 5] == 0).all()
    assert (result.codes[:, alive] == without.codes).mean() > 0.98  # damping differs by 1/24


@pytest.mark.parametrize("shape", [(1, 7), (7, 1), (1, 1), (3, 2, 2)])
def test_small_shapes_keep_their_shape(shape):
    weights = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    n_cols = weights[0].size
    steps = row_steps(weights.reshape(shape[0], -1), 8, None)
    result = gptq(weights, factorize(np.eye(n_cols, dtype=np.float32)), 8, steps)
    assert result.dequantize().shape == shape
    assert np.abs(result.dequantize() - weights).max() <= steps.max() * 0.51


def test_zero_weights_give_zero_codes():
    weights = np.zeros((4, 6), np.float32)
    result = gptq(weights, factorize(np.eye(6, dtype=np.float32)), 6, row_steps(weights, 6, None))
    assert not result.codes.any()
    assert (lite_steps(weights, 6) == 1).all()


def test_column_exponents_scale_the_steps():
    weights, hessian = correlated(8, 12, 9)
    exponents = np.array([-8, -3, 0, 1, 8, 0, 0, 4, -1], np.int8)
    steps = np.full(12, 0.05, np.float32)
    factors = 2 ** (exponents / 8).astype(np.float32)
    factor = factorize(hessian, 1e-6, act_order=False)
    options = TrellisOptions(lam=0.0)
    result = trellis_gptq(weights, factor, steps, exponents, options).tensor
    scaled = factorize(hessian * np.outer(factors, factors), 1e-6, act_order=False)
    folded = trellis_gptq(weights / factors, scaled, steps, options=options).tensor
    assert np.isclose(result.dequantize(), folded.dequantize() * factors, rtol=1e-4).mean() > 0.98


@pytest.mark.parametrize(
    ("hessian", "what"),
    [
        (np.full((3, 3), np.nan), "not finite"),
        (np.diag([1.0, np.inf, 1.0]), "not finite"),
        (np.diag([1.0, -1.0, 1.0]), "negative diagonal"),
        (np.zeros((2, 3)), "square"),
        (np.array([[1.0, 30.0], [30.0, 1.0]]), "positive semidefinite"),
    ],
)
def test_bad_hessian_is_refused_by_name(hessian, what):
    with pytest.raises(BadData, match=what):
        factorize(hessian.astype(np.float32))


def test_bad_arguments_are_refused_by_name():
    weights, hessian = correlated(0, 4, 6)
    factor, steps = factorize(hessian), np.ones(4, np.float32)
    with pytest.raises(BadConfig, match="bits"):
        gptq(weights, factor, 1, steps)
    with pytest.raises(BadConfig, match="damping"):
        factorize(hessian, 0.0)
    with pytest.raises(BadData, match="do not match this matrix"):
        gptq(weights[:, :5], factor, 4, steps)
    with pytest.raises(BadData, match="column exponents"):
        trellis_gptq(weights, factor, steps, np.zeros(5, np.int8))
    with pytest.raises(BadData, match="do not fit fp16"):
        gptq(weights, factor, 4, steps * 1e-9)
    with pytest.raises(BadData, match="weights are not finite"):
        gptq(weights * np.nan, factor, 4, steps)
