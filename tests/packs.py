"""Packing a checkpoint as `squeeze pack --preset` does, for tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from squeeze.checkpoint.read import load_model
from squeeze.packing.calibrate import Calibration
from squeeze.packing.pack import pack_model
from squeeze.packing.packed import Packed
from squeeze.packing.request import PackRequest
from squeeze.subject.subject import Subject
from squeeze.train.model.config import ModelConfig
from squeeze.train.model.gpt import GPT
from tests.subjects.training import STEPS, trained


class Killed(Exception):
    """Stands for the end of a process."""


def write_trained(config: ModelConfig, path: Path, steps: int = STEPS) -> Path:
    """Write a checkpoint whose weights have learnt a little; return its path."""
    torch.manual_seed(3)
    module = trained(Subject.of_gpt(GPT(config)), steps).module
    save_file(module.state_dict(), path, {"squeeze.config": config.to_json()})
    return path


def pack_to(
    path: Path,
    limit: int,
    calibration: Calibration,
    cache: Path,
    preset: str = "fast",
    **architecture: Any,
) -> Packed:
    """Return the checkpoint packed into at most `limit` bytes.

    architecture: fields of the configuration that the checkpoint does not tell
    """
    request = PackRequest(limit, preset, calibration=calibration, cache=cache)
    return pack_model(load_model(path, **architecture), request)
