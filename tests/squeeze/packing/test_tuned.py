"""Preset `tuned`: less divergence at the same bytes, under the limit, the same bytes again."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from squeeze.artifact.file import decode
from squeeze.calib.text.sources import Sequences
from squeeze.checkpoint.read import load_model
from squeeze.errors import BadConfig
from squeeze.packing.calibrate import Calibration
from squeeze.packing.pack import pack_model
from squeeze.packing.packed import Packed
from squeeze.packing.presets import TARGETS, Tuned
from squeeze.packing.request import PackRequest
from squeeze.packing.tune import pack as tuning
from squeeze.packing.tune.student import untuned_rows
from squeeze.train.model.config import ModelConfig
from tests.recorder import Recorder
from tests.tiny_models import begun

CONFIG = ModelConfig(64, 2, 48, 2, 1, 96, seq_len=32)
CALIBRATION = Calibration(tokens=2048)
LIMIT, STEPS = 5_500, 12


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "model.safetensors"
    state = begun(CONFIG, 3)
    state["tok_emb.weight"] *= 12  # answers that are sure of something, as those of a trained model
    save_file(state, path, {"squeeze.config": CONFIG.to_json()})
    return path


@pytest.fixture(scope="module")
def cache(model: Path) -> Path:
    return model.parent / "cache"


def pack(model: Path, cache: Path | None, preset: str = "tuned", tune: int = STEPS) -> Packed:
    request = PackRequest(LIMIT, preset, calibration=CALIBRATION, cache=cache, tune=tune)
    return pack_model(load_model(model), request)


def test_it_costs_less_than_best_on_text_it_was_not_tuned_on(model: Path, cache: Path) -> None:
    tuned, best = pack(model, cache, tune=120), pack(model, cache, "best")
    assert tuned.cost and best.cost
    assert tuned.cost.measured < 0.8 * best.cost.measured
    assert 0 <= LIMIT - len(tuned.data) <= 400
    decode(tuned.data)


def test_the_same_bytes_without_a_cache_and_with_half_of_one(model: Path, tmp_path: Path) -> None:
    first = pack(model, tmp_path / "cache").data
    assert pack(model, None).data == first
    assert pack(model, tmp_path / "cache").data == first
    for path in (tmp_path / "cache").glob("tuned-2*"):
        path.unlink()
    assert pack(model, tmp_path / "cache").data == first


def test_the_same_bytes_on_one_thread_and_on_two(model: Path) -> None:
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        one = pack(model, None).data
        torch.set_num_threads(2)
        assert pack(model, None).data == one
    finally:
        torch.set_num_threads(before)


def test_a_damaged_stage_is_made_again_with_a_note(model: Path, tmp_path: Path) -> None:
    first = pack(model, tmp_path / "cache")
    path = tmp_path / "cache" / "tuned-1.safetensors"
    path.write_bytes(path.read_bytes()[:-9])
    again = pack(model, tmp_path / "cache")
    assert again.data == first.data
    assert any("tuned-1.safetensors" in note for note in again.notes)


def test_a_file_that_grows_over_the_limit_at_the_end_is_fitted_again(
    model: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Floats that learnt may take more bytes: here nothing is left for them."""
    monkeypatch.setattr(tuning, "RESERVE", -150)
    assert len(pack(model, cache).data) <= LIMIT


def test_updates_are_counted(model: Path, cache: Path) -> None:
    recorder = Recorder()
    request = PackRequest(LIMIT, "tuned", calibration=CALIBRATION, cache=cache, tune=STEPS)
    pack_model(load_model(model), request, recorder)
    assert recorder.counts["tune"] == (STEPS, STEPS)


def test_shares_begin_with_the_mlp_and_share_the_updates() -> None:
    preset = TARGETS["tuned"]
    assert isinstance(preset, Tuned)
    names = ("tok_emb.weight", "blocks.0.attn.c_q.weight", "blocks.0.mlp.fc.weight")
    shares = tuning.Shares.of(dict.fromkeys(names), preset, 100)
    assert shares.names == tuple((name,) for name in reversed(names))
    assert shares.steps == (42, 42, 16)
    foreign = tuning.Shares.of(dict.fromkeys("abc"), preset, 100)
    assert foreign.names == (("a", "b"), ("c",)) and foreign.steps == (84, 16)


def test_one_sequence_is_too_little_text() -> None:
    with pytest.raises(BadConfig, match="two sequences"):
        untuned_rows(Sequences.whole(np.zeros((1, 8), np.uint16), "test"))
    assert untuned_rows(Sequences.whole(np.zeros((3, 8), np.uint16), "test")) == 1
