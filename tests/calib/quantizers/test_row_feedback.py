"""Feedback between rows: the algebra, and the loss it saves where outputs are correlated."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from squeeze.calib.allocation.waterfill import expected_loss, waterfill
from squeeze.calib.quantizers.gptq import Block
from squeeze.calib.quantizers.row_feedback import row_feedback
from squeeze.calib.quantizers.survivors import LAG, Pricing, make_workspace, search_block_
from squeeze.calib.quantizers.survivors_reference import search_fed_reference
from squeeze.calib.quantizers.trellis_gptq import TrellisOptions, trellis_gptq
from squeeze.calib.statistics.curvature import factorize
from squeeze.errors import BadData


def second_moments(seed, width, rank=4, noise=0.3):
    """Mean outer product [width, width] of samples near a subspace."""
    rng = np.random.default_rng(seed)
    samples = rng.standard_normal((8 * width, rank)) @ rng.standard_normal((rank, width))
    samples += noise * rng.standard_normal(samples.shape)
    return (samples.T @ samples / len(samples)).astype(np.float32)


def test_shares_and_importance_are_those_of_the_conditional_quadratic_form():
    g = second_moments(0, 20)
    feedback = row_feedback(g, damping=0.05)
    damped = g.astype(np.float64) + 0.05 * g.diagonal().mean() * np.eye(20)
    for r in range(20):
        expected = np.linalg.solve(damped[r + 1 :, r + 1 :], damped[r + 1 :, r])
        left = damped[r, r] - damped[r, r + 1 :] @ expected
        assert np.allclose(feedback.shares[r, r + 1 :], expected, atol=1e-6)
        assert not feedback.shares[r, : r + 1].any()
        assert feedback.importance[r] == pytest.approx(left, rel=1e-4)


def test_a_diagonal_alone_means_no_feedback():
    feedback = row_feedback(np.arange(5, dtype=np.float32))
    assert feedback.shares is None
    assert (feedback.importance == np.arange(5)).all()


def test_feedback_saves_loss_at_the_same_bits():
    rng = np.random.default_rng(1)
    weights = rng.standard_normal((128, 40)).astype(np.float32)
    hessian, g = second_moments(2, 40), second_moments(3, 128, rank=16)
    factor = factorize(hessian)

    def at(feedback, scale):
        steps = waterfill(weights, factor, feedback.importance, scale)
        found = trellis_gptq(weights, factor, steps.rows, steps.columns, TrellisOptions(feedback))
        return found.bits, expected_loss(weights - found.tensor.dequantize(), hessian, g)

    plain_bits, plain_loss = at(row_feedback(g.diagonal()), 0.5)
    scale = 0.1
    while (fed := at(row_feedback(g), scale))[0] > plain_bits:
        scale *= 1.05
    assert fed[1] < 0.6 * plain_loss


def mean_squares(weights, feedback, n_states):
    factor, steps = factorize(second_moments(5, weights.shape[1])), np.full(len(weights), 0.2)
    options = TrellisOptions(feedback, n_states, lam=0.0)
    result = trellis_gptq(weights, factor, steps.astype(np.float32), options=options)
    return float(((weights - result.tensor.dequantize()) ** 2).mean())


@pytest.mark.parametrize("n_states", [8, 32])
def test_rows_with_nothing_to_make_up_for_are_searched_as_without_feedback(n_states):
    weights = np.random.default_rng(4).standard_normal((500, 12)).astype(np.float32)
    independent = row_feedback(np.eye(500, dtype=np.float32))
    fed, plain = (mean_squares(weights, rows, n_states) for rows in (independent, None))
    # paths that must agree after a while are hardly worse, a wrong state would be off by a step
    assert fed == pytest.approx(plain, rel=0.02)


@given(st.integers(0, 99), st.integers(1, LAG), st.sampled_from([4, 8, 32]))
def test_every_path_carries_what_its_rows_owe(seed, n_rows, n_states):
    rng = np.random.default_rng(seed)
    column, shares = (
        3 * rng.standard_normal(n_rows),
        row_feedback(second_moments(seed, n_rows)).shares,
    )
    steps = rng.uniform(0.3, 0.6, n_rows).astype(np.float32)
    price, classes = rng.uniform(0, 1, (2, 200)), rng.integers(0, 2, n_rows).astype(np.uint8)
    block = Block(
        column[None].copy(),
        np.eye(1),
        steps,
        np.ones(1, np.float32),
        np.empty((1, n_rows)),
    )
    multiples = np.empty((1, n_rows), np.int32)
    pricing = Pricing(classes[None], price)
    search_block_(block, pricing, make_workspace(shares, n_states), multiples)
    rows = list(zip(column.tolist(), steps.tolist(), price[classes].tolist(), strict=True))
    assert multiples[0].tolist() == search_fed_reference(rows, shares.tolist(), n_states)


def test_errors_of_agreed_rows_reach_the_rows_beyond_their_window():
    """One output that all others repeat: what is left of all rows together must not add up."""
    n_rows = 5 * LAG
    weights = np.random.default_rng(7).standard_normal((n_rows, 6)).astype(np.float32)
    g = (np.ones((n_rows, n_rows)) + 0.05 * np.eye(n_rows)).astype(np.float32)
    factor, steps = factorize(np.eye(6, dtype=np.float32)), np.full(n_rows, 0.3, np.float32)
    result = trellis_gptq(
        weights, factor, steps, options=TrellisOptions(row_feedback(g, 1e-3), lam=0.0)
    )
    sums = (weights - result.tensor.dequantize()).sum(0)
    assert np.abs(sums).max() < 0.6


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (9, 1), (LAG, 2), (LAG + 1, 3), (2 * LAG, 1)])
def test_small_shapes_keep_their_shape(shape):
    weights = np.random.default_rng(8).standard_normal(shape).astype(np.float32)
    factor, rows = (
        factorize(second_moments(9, shape[1])),
        row_feedback(second_moments(10, shape[0])),
    )
    steps = np.full(shape[0], 0.1, np.float32)
    result = trellis_gptq(weights, factor, steps, options=TrellisOptions(rows))
    assert np.abs(weights - result.tensor.dequantize()).max() < 2.0
    nothing = trellis_gptq(np.zeros_like(weights), factor, steps, options=TrellisOptions(rows))
    assert not nothing.tensor.dequantize().any()


def test_dead_columns_stay_zero():
    weights = np.random.default_rng(11).standard_normal((70, 8)).astype(np.float32)
    hessian = second_moments(12, 8)
    hessian[3], hessian[:, 3] = 0, 0
    rows = row_feedback(second_moments(13, 70))
    result = trellis_gptq(
        weights, factorize(hessian), np.full(70, 0.1, np.float32), options=TrellisOptions(rows)
    )
    assert not result.tensor.dequantize()[:, 3].any()
    assert np.array_equal(
        result.tensor.codes,
        trellis_gptq(
            weights, factorize(hessian), np.full(70, 0.1, np.float32), options=TrellisOptions(rows)
        ).tensor.codes,
    )


def test_outputs_without_gradients_do_not_matter_and_do_not_disturb():
    g = second_moments(6, 12)
    g[4], g[:, 4] = 0, 0
    feedback = row_feedback(g)
    assert feedback.importance[4] == 0
    assert not feedback.shares[4].any()
    assert not feedback.shares[:, 4].any()
    assert row_feedback(np.zeros((3, 3), np.float32)).importance.tolist() == [1, 1, 1]


def test_bad_gradients_are_refused_by_name():
    with pytest.raises(BadData, match="not finite"):
        row_feedback(np.full((3, 3), np.nan, np.float32))
    weights = np.ones((4, 6), np.float32)
    factor, steps = factorize(np.eye(6, dtype=np.float32)), np.ones(4, np.float32)
    with pytest.raises(BadData, match="not match this matrix"):
        trellis_gptq(
            weights, factor, steps, options=TrellisOptions(row_feedback(np.ones(3, np.float32)))
        )
