"""Calibration as a stage: kept by content, used again, made anew when anything changed."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from safetensors.torch import save_file

from squeeze.checkpoint.read import LoadedModel, load_model
from squeeze.cli import cli
from squeeze.errors import BadConfig
from squeeze.packing.calibrate import Calibration, calibrate
from squeeze.train.data.shards import write_shard
from squeeze.train.model.config import ModelConfig
from squeeze.train.model.gpt import GPT
from tests.recorder import Recorder

CONFIG = ModelConfig(64, 2, 32, 2, 1, 64, seq_len=16)
SETTINGS = Calibration(tokens=64)
STAGES = ["calibration text", "Hessians", "output gradients"]


@pytest.fixture
def model_file(tmp_path: Path) -> Path:
    path = tmp_path / "model.safetensors"
    tensors = {name: t.clone() for name, t in GPT(CONFIG, seed=3).state_dict().items()}
    save_file(tensors, path, {"squeeze.config": CONFIG.to_json()})
    return path


@pytest.fixture
def loaded(model_file: Path) -> LoadedModel:
    return load_model(model_file)


def stages_run(loaded: LoadedModel, settings: Calibration, folder: Path) -> list[str]:
    recorder = Recorder()
    calibrate(loaded, settings, folder, reporter=recorder)
    assert all(sum(s.counts) == s.total and s.unit == "tokens" for s in recorder.stages)
    return recorder.names


def test_every_matrix_gets_a_hessian_of_its_input_width(
    loaded: LoadedModel, tmp_path: Path
) -> None:
    found = calibrate(loaded, SETTINGS, tmp_path / "c")
    text, hessians = found.text, found.hessians
    assert text.tokens == 64
    matrices = {n: s for n, s in CONFIG.parameter_shapes().items() if n.endswith(".weight")}
    assert {n: h.shape for n, h in hessians.matrices.items()} == {
        n: (s[1], s[1]) for n, s in matrices.items()
    }


def test_a_second_run_reads_every_stage_back(loaded: LoadedModel, tmp_path: Path) -> None:
    folder = tmp_path / "c"
    assert stages_run(loaded, SETTINGS, folder) == STAGES
    assert stages_run(loaded, SETTINGS, folder) == []


def test_other_settings_or_weights_run_all_again(loaded: LoadedModel, tmp_path: Path) -> None:
    folder = tmp_path / "c"
    stages_run(loaded, SETTINGS, folder)
    other = dataclasses.replace(SETTINGS, seed=1)
    assert stages_run(loaded, other, folder) == STAGES
    changed = dataclasses.replace(loaded, sha256="0" * 64)
    assert stages_run(changed, other, folder) == STAGES


def test_a_damaged_file_is_made_again_with_a_note(loaded: LoadedModel, tmp_path: Path) -> None:
    folder, recorder = tmp_path / "c", Recorder()
    text = calibrate(loaded, SETTINGS, folder, reporter=recorder).text
    assert recorder.notes == []
    (folder / "text.safetensors").write_bytes(b"torn")
    again = calibrate(loaded, SETTINGS, folder, reporter=recorder).text
    assert np.array_equal(text.ids, again.ids)
    assert len(recorder.notes) == 1 and "text.safetensors was damaged" in recorder.notes[0]


@pytest.mark.parametrize("stage", ["text", "hessians", "gradients"])
def test_one_flipped_bit_is_found(stage: str, loaded: LoadedModel, tmp_path: Path) -> None:
    """It leaves a file that reads well, of numbers that nothing here computed."""
    folder, recorder = tmp_path / "c", Recorder()
    calibrate(loaded, SETTINGS, folder)
    path = folder / f"{stage}.safetensors"
    whole = path.read_bytes()
    path.write_bytes(whole[:-2] + bytes([whole[-2] ^ 1]) + whole[-1:])
    calibrate(loaded, SETTINGS, folder, reporter=recorder)
    assert len(recorder.notes) == 1 and f"{stage}.safetensors was damaged" in recorder.notes[0]
    assert path.read_bytes() == whole


def test_shards_are_windows_of_the_given_text(loaded: LoadedModel, tmp_path: Path) -> None:
    tokens = (np.arange(1000) % 64).astype(np.uint16)
    write_shard(tmp_path / "t.bin", tokens)
    settings = Calibration("shards", tokens=64, data=(str(tmp_path / "t.bin"),))
    text = calibrate(loaded, settings, tmp_path / "c").text
    assert (np.diff(text.ids.astype(int), axis=1) % 64 == 1).all()


@pytest.mark.parametrize("settings", [{"source": "web"}, {"source": "shards"}, {"data": ("x",)}])
def test_contradicting_settings_are_refused(settings: dict[str, object]) -> None:
    with pytest.raises(BadConfig, match="calibration"):
        Calibration(**settings)  # type: ignore[arg-type]


def test_the_command_reports_what_it_kept(model_file: Path, tmp_path: Path) -> None:
    arguments = ["calibrate", str(model_file), "-o", str(tmp_path / "c"), "--tokens", "32"]
    result = CliRunner().invoke(cli, arguments)
    assert result.exit_code == 0, result.output
    assert "32 self-generated tokens in 2 sequences" in result.output
