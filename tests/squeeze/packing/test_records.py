"""Record recipes and the low-rank correction: they do what the entries do, and say what it is worth."""

import numpy as np
import pytest

from squeeze.calib.allocation.waterfill import expected_loss
from squeeze.calib.quantizers.gptq_lite import lite_steps
from squeeze.calib.quantizers.low_rank import low_rank
from squeeze.calib.statistics.curvature import proxy_loss
from squeeze.errors import BadConfig, BadData
from squeeze.packing.presets import RECORDS
from squeeze.packing.record import kind_of, quantize_record


def correlated(seed=0, n_rows=40, n_cols=30):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((200, n_cols)) @ rng.standard_normal((n_cols, n_cols))
    weights = rng.standard_normal((n_rows, n_cols)).astype(np.float32)
    return weights, (x.T @ x / 200).astype(np.float32)


def test_record_1394_has_its_steps():
    weights, hessian = correlated()
    found = quantize_record("mlp", weights, hessian, RECORDS["record-1394"])
    sigma = np.sqrt((weights.astype(np.float64) ** 2).mean(1))
    steps = found.steps.view(np.float16).astype(np.float64)
    assert np.allclose(steps, 12.85 * sigma / 31, rtol=1e-3)
    assert np.abs(found.codes).max() <= 31
    embedding = quantize_record("embed", weights, hessian, RECORDS["record-1394"])
    steps = embedding.steps.view(np.float16).astype(np.float64)
    assert np.allclose(steps, 20 * sigma / 127, rtol=1e-3)


def test_record_374_is_gptq_lite():
    weights, hessian = correlated()
    found = quantize_record("attn", weights, hessian, RECORDS["record-374"])
    nearest = np.rint(weights / lite_steps(weights, 6)[:, None])
    assert (found.codes == np.clip(nearest, -31, 31)).all()


def test_only_records_with_a_hessian_use_it():
    weights, hessian = correlated()
    losses = {
        name: proxy_loss(
            weights - quantize_record("mlp", weights, hessian, r).dequantize(),
            hessian,
        )
        for name, r in RECORDS.items()
    }
    assert losses["baseline-int8-zlib"] < losses["record-374"] < losses["record-1394"]
    coarse = quantize_record("mlp", weights, hessian, RECORDS["record-1394"], 2.0)
    fine = quantize_record("mlp", weights, hessian, RECORDS["record-1394"], 0.5)
    assert np.abs(coarse.codes).mean() < 0.3 * np.abs(fine.codes).mean()


def test_kinds_and_bad_factors():
    matrices = (
        ("tok_emb.weight", "embed.tok"),
        ("blocks.3.attn.proj.weight", "other"),
        ("up[2]", "mlp.fc"),
    )
    assert [kind_of(*matrix) for matrix in matrices] == ["embed", "attn", "mlp"]
    with pytest.raises(BadConfig, match="coarser"):
        quantize_record("embed", *correlated(), RECORDS["record-374"], 0.0)


def test_full_rank_correction_leaves_next_to_nothing():
    delta, hessian = correlated(1, 12, 9)
    result = low_rank(delta, hessian, np.ones(12, np.float32), 9, "fp32")
    assert result.after < 1e-6 * result.before


def test_correction_is_the_best_of_its_rank_for_the_expected_loss():
    delta, hessian = correlated(2, 16, 12)
    g = correlated(3, 1, 16)[1]
    result = low_rank(delta, hessian, g, 3, "fp32")
    assert result.left.shape == (16, 3) and result.right.shape == (3, 12)
    u, s, vt = np.linalg.svd(delta, full_matrices=False)
    plain = ((u[:, :3] * s[:3]) @ vt[:3]).astype(np.float32)
    assert result.after < 0.9 * expected_loss(delta - plain, hessian, g)


def test_zero_error_zero_curvature_and_bad_arguments():
    delta, hessian = correlated(5, 6, 5)
    nothing = low_rank(delta * 0, hessian, np.ones(6, np.float32), 2)
    assert nothing.before == nothing.after == 0
    blind = low_rank(delta, hessian * 0, np.zeros(6, np.float32), 2)
    assert np.isfinite(blind.left).all() and np.isfinite(blind.right).all()
    for rank in (0, 6):
        with pytest.raises(BadConfig, match="rank"):
            low_rank(delta, hessian, np.ones(6, np.float32), rank)
    with pytest.raises(BadData, match="not finite"):
        low_rank(delta * np.nan, hessian, np.ones(6, np.float32), 1)
