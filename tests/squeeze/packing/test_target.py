"""Packing to a byte target: just under it, the same bytes twice, and honest when it cannot be."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import save_file

from squeeze.artifact.file import decode
from squeeze.calib.quantizers.round_to_nearest import quantize_rtn
from squeeze.calib.text.sources import RandomTokens
from squeeze.checkpoint.read import load_checkpoint, load_model
from squeeze.cli import cli
from squeeze.errors import OverBudget
from squeeze.packing import target
from squeeze.packing.calibrate import Calibration
from squeeze.packing.costs import measured_divergence
from squeeze.packing.pack import pack_model
from squeeze.packing.packed import Packed
from squeeze.packing.request import PackRequest
from squeeze.packing.session import in_unit_order, open_session
from squeeze.reporter import SILENT
from squeeze.subject.subject import Subject
from squeeze.subject.workpiece import Workpiece
from squeeze.train.model.config import ModelConfig
from squeeze.train.model.gpt import GPT
from tests.packs import pack_to
from tests.tiny_models import begun

CONFIG = ModelConfig(256, 2, 64, 2, 1, 192, seq_len=32)
CALIBRATION = Calibration(tokens=256)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "model.safetensors"
    save_file(begun(CONFIG, 3), path, {"squeeze.config": CONFIG.to_json()})
    return path


def pack(model: Path, limit: int, preset: str = "fast") -> Packed:
    return pack_to(model, limit, CALIBRATION, model.parent / "cache", preset)


def costs(model: Path, limit: int, preset: str = "fast") -> tuple[float, float]:
    """Expected and measured nats per token."""
    cost = pack(model, limit, preset).cost
    assert cost is not None
    return cost.expected, cost.measured


@pytest.mark.parametrize("limit", [18_000, 30_000, 45_000, 70_000])
def test_lands_less_than_a_thousand_bytes_under_the_limit(model: Path, limit: int) -> None:
    packed = pack(model, limit)
    assert 0 <= limit - len(packed.data) < 1000
    decode(packed.data)


def test_the_same_bytes_twice(model: Path) -> None:
    assert pack(model, 30_000).data == pack(model, 30_000).data


def test_more_bytes_cost_less(model: Path) -> None:
    small, medium, large = (costs(model, limit) for limit in (20_000, 30_000, 45_000))
    assert small[0] > medium[0] > large[0] > 0
    assert small[1] > medium[1] > large[1] > 0


def test_more_states_cost_less_at_the_same_bytes(model: Path) -> None:
    assert costs(model, 30_000, "best")[0] < costs(model, 30_000, "fast")[0]


def test_a_limit_that_holds_everything_is_met_without_loss(model: Path) -> None:
    packed = pack(model, 1 << 20)
    assert packed.plan is None and packed.exact
    original = load_checkpoint(model).tensors
    for name, tensor in decode(packed.data).tensors.items():
        assert tensor.dequantize().tobytes() == original[name].dequantize().tobytes()


def test_a_limit_below_the_smallest_possible_size_says_that_size(model: Path) -> None:
    with pytest.raises(OverBudget, match=r"at least [\d,]+ bytes"):
        pack(model, 300)


def test_what_code_takes_of_a_limit_that_nothing_fits_is_said(model: Path, tmp_path: Path) -> None:
    code = tmp_path / "train_gpt.py"
    code.write_bytes(b"#" * 4_000)
    request = PackRequest(4_300, "fast", (code,), calibration=CALIBRATION)
    with pytest.raises(
        OverBudget, match=r"expected 300 bytes.* Code takes 4,000 bytes of 4,300\.$"
    ):
        pack_model(load_model(model), request)


def test_a_model_against_itself_has_no_divergence() -> None:
    model = Subject.of_gpt(GPT(CONFIG, seed=1))
    text = RandomTokens(CONFIG.vocab_size).draw(64, 32)
    assert measured_divergence(model, model, text).mean == pytest.approx(0, abs=1e-12)


def test_the_error_of_a_measured_cost_is_that_of_the_mean_of_its_tokens() -> None:
    model, other = (Subject.of_gpt(GPT(CONFIG, seed=seed)) for seed in (1, 2))
    text = RandomTokens(CONFIG.vocab_size).draw(96, 32)
    measured = measured_divergence(model, other, text)
    ids = torch.from_numpy(text.ids.astype(np.int64))
    first, second = (torch.log_softmax(m.logits(ids).double(), -1) for m in (model, other))
    each = (first.exp() * (first - second)).sum(-1).flatten()
    assert measured.tokens == 96 and measured.mean == pytest.approx(float(each.mean()))
    assert measured.error == pytest.approx(float(each.std()) / 96**0.5)


def test_the_command_counts_code_and_reports_the_cost(model: Path, tmp_path: Path) -> None:
    code = tmp_path / "train_gpt.py"
    code.write_bytes(b"#" * 4_000)
    arguments = ["pack", str(model), "-o", str(tmp_path / "m.sqz"), "--preset", "fast", "--json"]
    arguments += ["--tokens", "256", "--limit", "40000", "--code", str(code)]
    result = CliRunner().invoke(cli, arguments)
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    assert 0 <= report["ledger"]["unused"] < 1000
    assert report["fit"]["measured"] > 0 and report["fit"]["measured_tokens"] == 256
    assert report["fit"]["measured_error"] > 0
    assert any("measured on 256 tokens" in caution for caution in report["fit"]["cautions"])
    shown = CliRunner().invoke(cli, [word for word in arguments if word != "--json"]).output
    assert "(KL on 256 tokens of calibration text)" in shown and "rough figure" in shown


def test_tables_that_are_only_looked_up_are_quantized_too(tmp_path: Path) -> None:
    config = ModelConfig(
        256, 2, 64, 2, 1, 192, seq_len=32, tie_embeddings=False, bigram_rows=128, bigram_dim=32
    )
    model = tmp_path / "model.safetensors"
    save_file(
        {name: t.clone() for name, t in GPT(config, seed=3).state_dict().items()},
        model,
        {"squeeze.config": config.to_json()},
    )
    packed = pack(model, 40_000)
    assert 0 <= 40_000 - len(packed.data) < 1000
    assert packed.plan is not None
    assert {"tok_emb.weight", "lm_head.weight", "bigram.table.weight"} <= packed.plan.scales.keys()


@pytest.mark.parametrize("how", ["--preset=fast", "--preset=record-1394", "--quant=all=4"])
def test_code_that_fills_the_limit_is_named_before_anything_is_packed(
    model: Path, tmp_path: Path, how: str
) -> None:
    code, out = tmp_path / "train_gpt.py", tmp_path / "m.sqz"
    code.write_bytes(b"#" * 4_000)
    fixed = ["pack", str(model), how, "-o", str(out), "--limit", "4000", "--code"]
    result = CliRunner().invoke(cli, [*fixed, str(code)])
    assert isinstance(result.exception, OverBudget)
    assert "the code alone fills the limit" in str(result.exception)
    missing = CliRunner().invoke(cli, [*fixed, str(tmp_path / "absent.py")])
    assert "absent.py" in str(missing.exception)
    assert not list(tmp_path.rglob("text.safetensors")) and not out.exists()


def test_quant_and_preset_exclude_each_other(model: Path) -> None:
    arguments = ["pack", str(model), "--preset", "fast", "--quant", "all=6"]
    assert CliRunner().invoke(cli, arguments).exit_code == 2


@pytest.fixture(scope="module")
def gridded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model with its MLPs on grids of three bits a weight, as after quantization-aware training."""
    path = tmp_path_factory.mktemp("gridded") / "model.safetensors"
    tensors = begun(CONFIG, 3)
    for name, tensor in tensors.items():
        if "mlp" in name and name.endswith("weight"):
            tensors[name] = torch.from_numpy(quantize_rtn(tensor.numpy(), 3, 2.5).dequantize())
    save_file(tensors, path, {"squeeze.config": CONFIG.to_json()})
    return path


def test_a_grid_is_stored_as_codes_where_everything_fits(gridded: Path, model: Path) -> None:
    packed = pack(gridded, 1 << 20)
    assert packed.plan is None and len(packed.data) < 0.7 * len(pack(model, 1 << 20).data)
    original = load_checkpoint(gridded).tensors
    for name, tensor in decode(packed.data).tensors.items():
        assert tensor.dequantize().tobytes() == original[name].dequantize().tobytes()


def test_a_grid_is_kept_where_it_pays_and_left_where_it_does_not(
    gridded: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = load_checkpoint(gridded).tensors
    kept = {}
    for limit in (60_000, 12_000):
        packed = pack(gridded, limit)
        decoded = decode(packed.data).tensors
        kept[limit] = [
            name for name, tensor in decoded.items() if "mlp" in name and name.endswith("weight")
            and tensor.dequantize().tobytes() == original[name].dequantize().tobytes()
        ]  # fmt: skip
        assert 0 <= limit - len(packed.data) < 1000
        again = pack(gridded, limit)
        assert again.data == packed.data and again.plan == packed.plan
    assert len(kept[60_000]) == 4 and not kept[12_000]
    with_grids, _ = costs(gridded, 60_000)
    monkeypatch.setattr(target, "on_grid", lambda tensor: None)
    (gridded.parent / "cache" / "plan.json").unlink()
    assert with_grids < costs(gridded, 60_000)[0]


def test_codes_that_other_limits_kept_are_not_found_where_they_would_be_others(
    model: Path, tmp_path: Path
) -> None:
    """The damping and the order of units depend on the limit, the scale of a matrix need not."""
    piece = Workpiece.of(load_model(model))
    request = PackRequest(1, "fast", calibration=CALIBRATION, cache=tmp_path)
    with open_session(piece, request, SILENT) as session:
        calibrated = session.calibrated()
        damped, usual, unordered = (int(piece.weights * bits / 8) for bits in (1.4, 3.0, 5.0))
        starts = []
        for limit in (damped, usual, unordered):
            ordered, there = in_unit_order(piece, calibrated, limit)
            starts.append(target.start_of(replace(session, piece=ordered), there, limit))
    name, estimate = "blocks.0.mlp.fc.weight", starts[1].quantizer.estimate
    scale = next(2.0**-n for n in range(60) if estimate(2.0**-n) > usual)
    files = [start.quantizer.quantize({name: scale})[name].coded for start in starts]
    assert len(set(files)) == 3
    assert files == [start.quantizer.quantize({name: scale})[name].coded for start in starts]


def test_a_frontier_that_cannot_be_drawn_is_refused_before_the_work(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fixed = ["pack", str(model), "-o", str(tmp_path / "m.sqz"), "--preset", "fast", "--frontier"]
    other = CliRunner().invoke(cli, [*fixed, str(tmp_path / "frontier.svg")])
    assert "expected NAME.png, found frontier.svg" in str(other.exception)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    missing = CliRunner().invoke(cli, [*fixed, str(tmp_path / "frontier.png")])
    assert "needs matplotlib" in str(missing.exception)
    assert not list(tmp_path.iterdir())


def test_a_frontier_that_is_not_drawn_is_said(model: Path, tmp_path: Path) -> None:
    picture = tmp_path / "frontier.png"
    arguments = ["pack", str(model), "-o", str(tmp_path / "m.sqz"), "--preset", "fast"]
    done = CliRunner().invoke(cli, [*arguments, "--frontier", str(picture)])
    assert done.exit_code == 0 and not picture.exists()
    assert "frontier.png is not drawn: everything fits without loss" in done.stderr
