"""Feedback between rows: the algebra, and the loss it saves where outputs are correlated."""

import numpy as np
import pytest

from squeeze.calib.curvature import factorize
from squeeze.calib.row_feedback import row_feedback
from squeeze.calib.trellis_gptq import trellis_gptq
from squeeze.calib.waterfill import expected_loss, waterfill
from squeeze.errors import BadData


def second_moments(seed, width, rank=4, noise=0.3):
    """Mean outer product [width, width] of samples near a subspace."""
    rng = np.random.default_rng(seed)
    samples = rng.standard_normal((8 * width, rank)) @ rng.standard_normal((rank, width))
    samples += noise * rng.standard_normal(samples.shape)
    return (samples.T @ samples / len(samples)).astype(np.float32)


@pytest.mark.parametrize("block", [1, 3, 8, 20, 50])
def test_shares_and_importance_are_those_of_the_conditional_quadratic_form(block):
    g = second_moments(0, 20)
    feedback = row_feedback(g, damping=0.05, block=block)
    damped = g.astype(np.float64) + 0.05 * g.diagonal().mean() * np.eye(20)
    for (first, last), shares in zip(feedback.blocks, feedback.shares, strict=True):
        later = damped[last:, last:]
        expected = np.linalg.solve(later, damped[last:, first:last])
        left = damped[first:last, first:last] - damped[first:last, last:] @ expected
        assert np.allclose(shares, expected, atol=1e-6)
        assert np.allclose(feedback.importance[first:last], left.diagonal(), rtol=1e-4)
    assert [b for pair in feedback.blocks for b in pair][-1] == 20


def test_a_diagonal_alone_means_no_feedback():
    feedback = row_feedback(np.arange(5, dtype=np.float32))
    assert feedback.blocks == ((0, 5),)
    assert (feedback.importance == np.arange(5)).all()
    assert feedback.shares[0].shape == (0, 5)


def test_feedback_saves_loss_at_the_same_bits():
    rng = np.random.default_rng(1)
    weights = rng.standard_normal((128, 40)).astype(np.float32)
    hessian, g = second_moments(2, 40), second_moments(3, 128, rank=16)
    factor = factorize(hessian)

    def at(feedback, scale):
        steps = waterfill(weights, factor, feedback.importance, scale)
        found = trellis_gptq(weights, factor, steps.rows, steps.columns, rows=feedback)
        return found.bits, expected_loss(weights - found.tensor.dequantize(), hessian, g)

    plain_bits, plain_loss = at(row_feedback(g.diagonal()), 0.5)
    scale = 0.1
    while (fed := at(row_feedback(g, block=8), scale))[0] > plain_bits:
        scale *= 1.05
    assert fed[1] < 0.6 * plain_loss


def test_the_path_goes_on_from_block_to_block():
    weights = np.random.default_rng(4).standard_normal((90, 12)).astype(np.float32)
    factor, steps = factorize(second_moments(5, 12)), np.full(90, 0.02, np.float32)
    independent = np.eye(90, dtype=np.float32)  # blocks, but nothing to make up for
    blocks = row_feedback(independent, block=16)
    result = trellis_gptq(weights, factor, steps, rows=blocks, n_states=32, lam=0.0)
    whole = trellis_gptq(weights, factor, steps, n_states=32, lam=0.0)
    errors = [((weights - r.tensor.dequantize()) ** 2).mean() for r in (result, whole)]
    assert errors[0] < 1.3 * errors[1]  # a wrong state would be off by a step: ten times as much


def test_outputs_without_gradients_do_not_matter_and_do_not_disturb():
    g = second_moments(6, 12)
    g[4], g[:, 4] = 0, 0
    feedback = row_feedback(g, block=4)
    assert feedback.importance[4] == 0
    assert not feedback.shares[0][0].any()
    assert row_feedback(np.zeros((3, 3), np.float32)).importance.tolist() == [1, 1, 1]


def test_bad_gradients_are_refused_by_name():
    with pytest.raises(BadData, match="not finite"):
        row_feedback(np.full((3, 3), np.nan, np.float32))
    weights = np.ones((4, 6), np.float32)
    factor, steps = factorize(np.eye(6, dtype=np.float32)), np.ones(4, np.float32)
    with pytest.raises(BadData, match="another matrix"):
        trellis_gptq(weights, factor, steps, rows=row_feedback(np.ones(3, np.float32)))
