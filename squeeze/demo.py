"""The whole job on a small model and no download: text, training, packing, ledger, score.

The text is the documentation that ships with Python. Held-out documents are scored, packed and
unpacked, each by `squeeze eval` in a process of its own.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from squeeze.checkpoint.read import load_model
from squeeze.errors import SqueezeError
from squeeze.files import make_folder
from squeeze.packing.calibrate import Calibration, OnStage
from squeeze.packing.pack import pack_model
from squeeze.packing.request import PackRequest, Watch
from squeeze.train.checkpoint import save_checkpoint
from squeeze.train.data.shards import read_shard, write_shard
from squeeze.train.data.text import encode_documents, python_docs_text, train_tokenizer
from squeeze.train.model.config import ModelConfig
from squeeze.train.optim.recipe import Recipe
from squeeze.train.run.course import StepRecord
from squeeze.train.run.training import RunOptions, Training, TrainResult

# 0.6M weights: what two CPU cores can teach something in two minutes (docs/log.md)
CONFIG = ModelConfig(1024, 4, 128, 4, 2, 256, seq_len=128)
HELD_OUT = 20  # every 20th document is for scoring
CALIBRATION = Calibration(tokens=16_384)
TrainingBar = Callable[[], AbstractContextManager[Callable[[StepRecord], None]]]


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


def make_data(files: Files) -> tuple[int, int]:
    """Write tokenizer and shards; returns the number of training and held-out tokens."""
    documents = python_docs_text()
    kept = [text for i, text in enumerate(documents) if i % HELD_OUT]
    held_out = documents[::HELD_OUT]
    make_folder(files.folder)
    train_tokenizer(kept, CONFIG.vocab_size, files.tokenizer)
    sizes = []
    for texts, path in ((kept, files.train), (held_out, files.held_out)):
        tokens = encode_documents(texts, files.tokenizer)
        write_shard(path, tokens)
        sizes.append(len(tokens))
    return sizes[0], sizes[1]


def train_model(files: Files, seconds: float, seed: int, training_bar: TrainingBar) -> TrainResult:
    """Train for `seconds` of wallclock and save the checkpoint."""
    recipe = Recipe(budget_seconds=seconds)
    training = Training(CONFIG, [read_shard(files.train)], recipe, RunOptions(seed=seed))
    with training_bar() as show:
        for step in training.steps():
            show(step)
    result = training.result()
    save_checkpoint(files.checkpoint, result.config, result.state_dict)
    return result


def pack_to_limit(files: Files, limit: int, on_stage: OnStage) -> float:
    """Pack just under `limit` bytes, calibrated on text the model writes; returns bits per weight.

    Raises OverBudget when nothing fits.
    """
    request = PackRequest(
        limit,
        "fast",
        calibration=CALIBRATION,
        cache=files.artifact.with_name(files.artifact.name + ".cache"),  # as `squeeze pack` has it
    )
    packed = pack_model(load_model(files.checkpoint), request, Watch(on_stage))
    packed.save(files.artifact)
    return 8 * len(packed.data) / CONFIG.num_params


def score(model: Path, files: Files) -> dict[str, Any]:
    """Return the report of `squeeze eval --json` on a model, from a fresh process."""
    command = [sys.executable, "-m", "squeeze", "eval", str(model), "--json"]
    command += ["--tokenizer", str(files.tokenizer), "--data", str(files.held_out)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SqueezeError(f"scoring {model} failed: {done.stderr.strip()}")
    report: dict[str, Any] = json.loads(done.stdout)
    return report


def run(
    folder: Path,
    seconds: float,
    limit: int,
    seed: int,
    say: Callable[[str], None],
    training_bar: TrainingBar,
    on_stage: OnStage,
) -> dict[str, Any]:
    """The whole demo; `say` gets a line before each stage. Returns the figures of its last table."""
    files = Files(folder)
    say("text and tokenizer: documentation that ships with Python")
    train_tokens, held_out_tokens = make_data(files)
    say(f"training {CONFIG.num_params:,} weights on {train_tokens:,} tokens for {seconds:g} s")
    trained = train_model(files, seconds, seed, training_bar)
    say(f"packing to at most {limit:,} bytes")
    bits = pack_to_limit(files, limit, on_stage)
    say(f"scoring {held_out_tokens:,} held-out tokens, each model in a fresh process")
    plain, packed = score(files.checkpoint, files), score(files.artifact, files)
    size = files.artifact.stat().st_size
    return {
        "fp32_bpb": plain["bpb"],
        "packed_bpb": packed["bpb"],
        "fp32_bytes": files.checkpoint.stat().st_size,
        "packed_bytes": size,
        "limit": limit,
        "unused_bytes": limit - size,
        "bits_per_weight": bits,
        "steps": trained.steps,
        "train_seconds": trained.seconds,
        "scored_bytes": packed["bytes"],
        "folder": str(folder),
    }
