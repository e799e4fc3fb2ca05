"""Saving: atomic, deterministic, and readable with its configuration."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from squeeze.checkpoint.read import load_model
from squeeze.errors import BadCheckpoint, SqueezeError
from squeeze.train.checkpoint import save_checkpoint
from squeeze.train.model.config import ModelConfig
from squeeze.train.model.gpt import GPT

CONFIG = ModelConfig(40, 2, 16, 2, 1, 24, mlp_power=3, seq_len=77)


def test_a_saved_model_comes_back_with_its_config(tmp_path: Path) -> None:
    state = GPT(CONFIG, seed=1).state_dict()
    save_checkpoint(tmp_path / "m.safetensors", CONFIG, state)
    with safe_open(tmp_path / "m.safetensors", "pt") as file:
        assert file.metadata() == {"squeeze.config": CONFIG.to_json()}
    loaded = load_model(tmp_path / "m.safetensors")
    assert loaded.config == CONFIG
    assert loaded.notes == []
    for name, weight in state.items():
        assert torch.equal(torch.from_numpy(loaded.tensors[name].copy()), weight)


def test_the_same_weights_give_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        save_checkpoint(tmp_path / name, CONFIG, GPT(CONFIG).state_dict())
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_weights_of_another_model_are_refused_and_leave_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    path.write_bytes(b"old")
    state = GPT(CONFIG).state_dict()
    del state["skip_weights"]
    with pytest.raises(BadCheckpoint, match="not those of the configuration"):
        save_checkpoint(path, CONFIG, state)
    assert path.read_bytes() == b"old"


def test_a_failed_write_leaves_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(SqueezeError, match="cannot be written"):
        save_checkpoint(tmp_path / "folder", CONFIG, GPT(CONFIG).state_dict())
    with pytest.raises(SqueezeError, match="cannot be written"):
        save_checkpoint(tmp_path / "none" / "m", CONFIG, GPT(CONFIG).state_dict())
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]
