"""Every architecture is calibrated, packed, read back and scored; its configuration is inferred."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from squeeze.artifact.file import decode
from squeeze.calib.allocation.waterfill import expected_loss
from squeeze.calib.statistics.collect import collect
from squeeze.calib.statistics.fisher import collect_gradients
from squeeze.calib.text.sources import RandomTokens
from squeeze.checkpoint.read import load_model
from squeeze.ledger.attribute import artifact_rows
from squeeze.packing.calibrate import Calibration
from squeeze.tensors.roles import ROLES, role_of
from squeeze.train.model.config import ModelConfig
from squeeze.train.model.gpt import GPT
from tests.packs import pack_to
from tests.squeeze.checkpoint.test_checkpoint import completed
from tests.tapping import tapped
from tests.tiny_models import EVERYTHING, NARROW, OPTIONS, ids_of, lively

CALIBRATION = Calibration(tokens=128)
MIXED = replace(
    OPTIONS["bigram and smear"],
    value_layers=(1,),
    tie_embeddings=False,
    logit_softcap=0.0,
    bigram_rows=120,
    value_dim=24,
)
PACKED = NARROW | {"tables and an untied head": MIXED}


def saved(config: ModelConfig, path: Path) -> Path:
    save_file(lively(config).state_dict(), path, {"squeeze.config": config.to_json()})
    return path


@pytest.mark.parametrize("name", PACKED)
def test_packs_to_a_target_and_scores_what_it_scored_when_packed(name: str, tmp_path: Path) -> None:
    config = PACKED[name]
    path = saved(config, tmp_path / "model.safetensors")
    limit = config.num_params  # one byte a weight
    packed = pack_to(path, limit, CALIBRATION, tmp_path / "kept")
    assert len(packed.data) <= limit
    (tmp_path / "model.sqz").write_bytes(packed.data)
    again = load_model(tmp_path / "model.sqz")
    assert again.config == config
    weights = {n: t.dequantize() for n, t in decode(packed.data).tensors.items()}
    ids = ids_of(2, 16, 0, 9)
    with torch.inference_mode():
        found = GPT.from_tensors(again.config, again.tensors)(ids)
        assert torch.equal(found, GPT.from_tensors(config, weights)(ids))
        wrong = (found - lively(config)(ids)).square().mean().sqrt()
    assert 0 < wrong < 0.5 * lively(config)(ids).std()
    codes = {row.tensor for row in artifact_rows("m", packed.data) if row.kind == "codes"}
    large = {n for n, shape in config.parameter_shapes().items() if np.prod(shape) >= 2048}
    assert large <= codes


@pytest.mark.parametrize("name", EVERYTHING)
def test_calibration_sees_every_matrix_and_table(name: str) -> None:
    config = EVERYTHING[name]
    model, text = lively(config), RandomTokens(config.vocab_size).draw(64, 16)
    hessians, gradients = collect(tapped(model), text), collect_gradients(tapped(model), text)
    shapes = {n: s for n, s in config.parameter_shapes().items() if n.endswith(".weight")}
    assert hessians.matrices.keys() == gradients.rows.keys() == shapes.keys()
    for key, (rows, columns) in shapes.items():
        assert hessians.matrices[key].shape == (columns, columns)
        idle = key.startswith(tuple(f"blocks.{layer}.attn" for layer in config.no_attention))
        assert gradients.rows[key].shape == (rows,) and gradients.rows[key].any() != idle, key


@pytest.mark.parametrize("table", ["tok_emb", "bigram.table", "value_embed.table"])
def test_expected_loss_of_a_table_is_the_measured_divergence(table: str) -> None:
    model, text = lively(MIXED), RandomTokens(MIXED.vocab_size).draw(8192, 32)
    hessians = collect(tapped(model), text)
    gradients = collect_gradients(tapped(model), text, tokens=8192)
    weight = model.get_submodule(table).weight
    noise = torch.randn(weight.shape, generator=torch.Generator().manual_seed(1))
    delta = 0.02 * noise * weight.std()
    ids = torch.from_numpy(text.ids.astype(np.int64))
    before = torch.log_softmax(model(ids), -1)
    weight += delta
    after = torch.log_softmax(model(ids), -1)
    measured = float((before.exp() * (before - after)).sum(-1).double().mean())
    name = f"{table}.weight"
    expected = expected_loss(delta.numpy(), hessians.matrices[name], gradients.rows[name])
    assert expected == pytest.approx(measured, rel=0.3)


def test_new_tensors_have_roles() -> None:
    for config in EVERYTHING.values():
        for name in config.parameter_shapes():
            role = role_of(name)
            matrix = name.endswith(".weight") and not name.startswith("smear")
            assert role in ROLES and (role != "other") == matrix, name
    assert role_of("blocks.2.repeats.0.mlp.fc.weight") == "mlp.fc"


# Options without tensors of their own, which must be named when the file does not
UNTOLD = {
    "bos_id", "document_attention", "attention_window", "rope_dims", "qk_norm", "q_gain_init",
    "xsa_layers", "attention_gate", "attention_gate_scale", "norm_scale", "mlp_slope", "mlp_power",
    "parallel", "parallel_from", "seq_len", "logit_softcap", "layer_schedule", "rope_base",
    "rope_length", "no_attention", "by_depth", "inputs_cross_documents", "value_layers", "lane_output",
}  # fmt: skip


@pytest.mark.parametrize("name", EVERYTHING)
def test_shapes_and_named_options_give_the_configuration_back(name: str) -> None:
    config = replace(EVERYTHING[name], gate_window=7)
    told = {field: getattr(config, field) for field in UNTOLD}
    done = completed(config.parameter_shapes(), **told)
    found = done.config
    assert not done.assumed and found.parameter_shapes() == config.parameter_shapes()
    widths = {field for field in ModelConfig.__dataclass_fields__ if field.endswith("_dim")}
    unread = {"gate_window"} | widths - {"model_dim"}  # of options that are off
    assert replace(found, **{f: getattr(config, f) for f in unread}) == config
