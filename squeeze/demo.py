"""Steps of the demo: text, training, packing and score of a small model, without a download.

The text is the documentation that ships with Python. The trained and the packed model are scored on
held-out documents, each by `squeeze eval` in a process of its own.
"""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from squeeze.checkpoint.read import load_model
from squeeze.errors import SqueezeError
from squeeze.files import cache_beside, make_folder
from squeeze.packing.calibrate import Calibration
from squeeze.packing.pack import pack_model
from squeeze.packing.request import PackRequest
from squeeze.reporter import SILENT, Reporter
from squeeze.train.checkpoint import save_checkpoint
from squeeze.train.data.shards import read_shard, write_shard
from squeeze.train.data.text import encode_documents, python_docs_text, train_tokenizer
from squeeze.train.model.config import ModelConfig
from squeeze.train.optim.recipe import Recipe
from squeeze.train.run.training import RunOptions, Training, TrainResult

# 0.6M weights: few enough for two CPU cores to train in two minutes (docs/log.md)
CONFIG = ModelConfig(1024, 4, 128, 4, 2, 256, seq_len=128)
HELD_OUT = 20  # every 20th document is for scoring
CALIBRATION = Calibration(tokens=16_384)


class Files:
    """Paths of the demo's files."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.tokenizer = folder / "tokenizer.model"
        self.train = folder / "train.bin"
        self.held_out = folder / "held_out.bin"
        self.checkpoint = folder / "model.safetensors"
        self.artifact = folder / "model.sqz"
        self.report = folder / "report.html"


@dataclass(frozen=True)
class DataSizes:
    """Sizes of the demo's shards in tokens."""

    train: int
    held_out: int


def make_data(files: Files) -> DataSizes:
    """Write the tokenizer and both shards, and return their sizes."""
    documents = python_docs_text()
    training_texts = [text for i, text in enumerate(documents) if i % HELD_OUT]
    make_folder(files.folder)
    train_tokenizer(training_texts, CONFIG.vocab_size, files.tokenizer)
    train = encode_documents(training_texts, files.tokenizer)
    held_out = encode_documents(documents[::HELD_OUT], files.tokenizer)
    write_shard(files.train, train)
    write_shard(files.held_out, held_out)
    return DataSizes(len(train), len(held_out))


def begin_training(files: Files, seconds: float, seed: int) -> Training:
    """Return a training of `seconds` of wallclock, whose steps the caller loops over."""
    recipe = Recipe(budget_seconds=seconds)
    return Training(CONFIG, [read_shard(files.train)], recipe, RunOptions(seed=seed))


def save_trained(files: Files, training: Training) -> TrainResult:
    """Write the checkpoint of a training whose steps have ended, and return its result."""
    result = training.result()
    save_checkpoint(files.checkpoint, result.config, result.state_dict)
    return result


def pack_to_limit(files: Files, limit: int, reporter: Reporter = SILENT) -> float:
    """Pack just under `limit` bytes, and return the bits per weight.

    The calibration text is written by the model. Raises OverBudget when nothing fits.
    """
    request = PackRequest(
        limit,
        "fast",
        calibration=CALIBRATION,
        cache=cache_beside(files.artifact),
    )
    packed = pack_model(load_model(files.checkpoint), request, reporter)
    packed.save(files.artifact)
    return 8 * len(packed.data) / CONFIG.num_params


def score(model: Path, files: Files) -> dict[str, Any]:
    """Return the report of `squeeze eval --json` on a model, from a fresh process.

    Raises SqueezeError when that process fails.
    """
    command = [sys.executable, "-m", "squeeze", "eval", str(model), "--json"]
    command += ["--tokenizer", str(files.tokenizer), "--val", str(files.held_out)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SqueezeError(f"scoring {model} failed: {done.stderr.strip()}")
    report: dict[str, Any] = json.loads(done.stdout)
    return report
