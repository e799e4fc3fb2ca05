"""Records' presets of `squeeze pack`: their quantizer, their coder, one command."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from safetensors.torch import save_file

from squeeze.artifact.file import load
from squeeze.calib.statistics.curvature import proxy_loss
from squeeze.cli import cli
from squeeze.errors import OverBudget
from squeeze.packing.presets import ALONE, PRESETS, RECORDS, ROUNDINGS, packer_of
from squeeze.packing.record import quantize_record, salient_columns
from squeeze.tensors.quantized import QuantizedTensor
from squeeze.train.model.config import ModelConfig
from tests.tiny_models import begun

CONFIG = ModelConfig(128, 2, 64, 2, 1, 96, seq_len=32)
MATRIX = "blocks.1.mlp.fc.weight"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "model.safetensors"
    save_file(begun(CONFIG, 5), path, {"squeeze.config": CONFIG.to_json()})
    return path


def pack(model: Path, preset: str, *more: str) -> dict[str, Any]:
    arguments = ["pack", str(model), "--preset", preset, "--small", "1024", "--tokens", "128"]
    result = CliRunner().invoke(cli, [*arguments, *more, "--json"], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    report: dict[str, Any] = json.loads(result.stdout)
    return report


def test_the_command_offers_every_preset_that_is_no_flag_of_its_own() -> None:
    page = CliRunner().invoke(cli, ["pack", "--help"], terminal_width=200).output
    for name in PRESETS.keys() - ROUNDINGS.keys() - ALONE.keys():
        assert f" {name}" in page


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_has_a_packer(preset: str) -> None:
    assert callable(packer_of(PRESETS[preset]))


@pytest.mark.parametrize("preset", sorted(RECORDS))
def test_a_record_is_coded_by_its_own_coder_alone(model: Path, tmp_path: Path, preset: str) -> None:
    out = tmp_path / "model.sqz"
    report = pack(model, preset, "-o", str(out))
    coders = {row["codec"] for row in report["ledger"]["rows"]} - {""}
    assert coders <= set(RECORDS[preset].coders)
    packed = load(out).tensors[MATRIX]
    assert isinstance(packed, QuantizedTensor)
    bits = 8 if RECORDS[preset].salient else RECORDS[preset].bits["mlp"]
    largest = (1 << (bits - 1)) - 1
    assert largest // 8 < np.abs(packed.codes).max() <= largest
    assert (out.with_name("model.sqz.cache") / "text.safetensors").exists() == RECORDS[
        preset
    ].hessian


def test_the_salient_columns_are_those_of_large_inputs_and_weights() -> None:
    weights, hessian = np.ones((4, 10), np.float32), np.eye(10, dtype=np.float32)
    weights[:, 9] = 5.0
    assert salient_columns(weights, hessian, 4, 2).tolist() == [0] * 8 + [2, 2]
    hessian[0, 0] = 100.0
    assert salient_columns(weights, hessian, 4, 2).tolist() == [2] * 4 + [0] * 6
    assert salient_columns(weights, hessian, 0, 2) is None
    assert salient_columns(weights, hessian, 4, 0) is None


def test_record_1908_is_record_1855_with_one_group_of_each_matrix_finer() -> None:
    rng = np.random.default_rng(1)
    weights = rng.standard_normal((32, 128)).astype(np.float32)
    inputs = rng.standard_normal((512, 128)).astype(np.float32)
    inputs[:, 64:] *= 3.0
    hessian = inputs.T @ inputs / len(inputs)
    older, newer = (
        quantize_record("mlp", weights, hessian, RECORDS[name])
        for name in ("record-1855", "record-1908")
    )
    assert newer.columns is not None and newer.columns.tolist() == [0] * 64 + [-16] * 64
    assert np.abs(newer.codes[:, :64]).max() <= 31 < np.abs(newer.codes[:, 64:]).max() <= 127
    losses = [proxy_loss(weights - each.dequantize(), hessian) for each in (older, newer)]
    assert losses[1] < 0.3 * losses[0]


def test_what_is_missing_of_record_1855_is_priced(model: Path, tmp_path: Path) -> None:
    left_out = pack(model, "record-1855", "-o", str(tmp_path / "m.sqz"))["record"]
    left_out = left_out["low_rank_left_out"]
    assert len(left_out["tensors"]) == 3
    assert left_out["bytes"] > 0 and left_out["nats_per_token_saved"] > 0


def test_fewer_bits_are_fewer_bytes(model: Path, tmp_path: Path) -> None:
    sizes = [
        pack(model, preset, "-o", str(tmp_path / f"{preset}.sqz"))["ledger"]["total"]
        for preset in ("baseline-int8-zlib", "record-374", "ternary")
    ]
    assert sizes == sorted(sizes, reverse=True)


def test_a_record_over_the_limit_exits_with_3(model: Path, tmp_path: Path) -> None:
    arguments = ["pack", str(model), "-o", str(tmp_path / "m.sqz"), "--preset", "ternary"]
    result = CliRunner().invoke(cli, [*arguments, "--limit", "1000"])
    assert isinstance(result.exception, OverBudget) and result.exception.exit_code == 3
