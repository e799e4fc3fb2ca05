"""One rank of test_group_without_cpu: trains, calibrates, packs and scores, and keeps what came out."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.distributed.nn.functional  # before a group exists: see squeeze.ranks.group
from safetensors.torch import save_file

from squeeze.calib.statistics import fisher, inputs
from squeeze.checkpoint.live import open_model
from squeeze.packing.calibrate import Calibration
from squeeze.packing.pack import pack_model
from squeeze.packing.packed import Packed
from squeeze.packing.request import PackRequest
from squeeze.ranks.group import Ranks
from squeeze.score.modes import MODES, Mode
from squeeze.score.plan import document_spans
from squeeze.score.tokenizer import Text
from squeeze.subject.workpiece import Workpiece
from squeeze.train.model.config import ModelConfig
from squeeze.train.model.gpt import GPT
from squeeze.train.optim.recipe import Recipe
from squeeze.train.run.training import RunOptions, Training
from tests.recorder import Recorder
from tests.scoring import BOS, TABLE, random_model, repetitive_documents
from tests.tiny_models import begun
from tests.tiny_text import noisy_cycle

# three blocks: no bank of matrices divides evenly between the ranks
CONFIG = ModelConfig(50, 3, 32, 2, 1, 48, seq_len=16, layer_schedule=(0, 1, 2, 1))
RECIPE = Recipe(batch_tokens=256, steps=8, average="ema", recurrence_start=0.5)
LIMIT = 12_000
SETTINGS = {
    "ttt-lora": {"chunk": "4", "batch": "3"},
    "ttt-chunk": {"chunk": "32"},
    "ttt-phased": {"chunk": "4", "batch": "8", "phases": "2"},
}


def trained(ranks: Ranks, exchange: str) -> tuple[list[float], dict[str, torch.Tensor]]:
    """Return the losses of a short run, and its weights.

    exchange: dtype in which gradients and directions travel
    """
    recipe = replace(RECIPE, exchange=exchange)
    training = Training(CONFIG, [noisy_cycle(3000)], recipe, RunOptions(0, ranks))
    losses = [step.loss for step in training.steps()]
    return losses, training.result().state_dict


def packed(cache: Path) -> Packed:
    """Return a model packed on text that it writes itself; the cache keeps the calibration."""
    torch.manual_seed(0)
    model = GPT(CONFIG)
    model.load_state_dict(begun(CONFIG, 3))
    text = Calibration(tokens=512)
    request = PackRequest(LIMIT, "fast", calibration=text, cache=cache)
    return pack_model(Workpiece.of(open_model(model, None, None, False)), request)


def scores() -> dict[str, Any]:
    """Return the score of every mode, and how many targets were this rank's."""
    tokens = repetitive_documents((23, 4, 1, 40, 9, 30, 5, 12, 17))
    results = {}
    for name in MODES:
        mode = Mode(name, settings=SETTINGS.get(name, {}))
        recorder = Recorder()
        score, ledger = mode.scoring(random_model()).score(
            Text(tokens, TABLE),
            document_spans(tokens, BOS),
            None if mode.facts.learns else 2,
            recorder,
        )
        keys = ("nats", "end_nats", "bpb", "tokens", "bytes", "ends")
        results[name] = {key: getattr(score, key) for key in keys}
        results[name]["order"] = ledger.check() if ledger is not None else None
        results[name]["work"] = sum(recorder.stages[0].counts)
    return results


def main(folder: Path, rank: int, world: int) -> None:
    """Do all of it as one rank; torch knows of no GPU here, so that all tensors are on the CPU."""
    torch.set_num_threads(1)
    if world > 1:
        dist.init_process_group(
            "cuda:gloo",  # no backend for the CPU, as NCCL has none
            init_method=f"file://{folder}/rendezvous-{world}",
            rank=rank,
            world_size=world,
        )
    inputs.BLOCK = fisher.BLOCK = 64  # tokens: several blocks for each rank
    losses, weights = trained(Ranks.current(), "fp32")
    halves, _ = trained(Ranks.current(), "bf16")
    artifact = packed(folder / f"cache-{world}").data
    name = f"{rank}-of-{world}"
    (folder / f"{name}.sqz").write_bytes(artifact)
    (folder / f"{name}.json").write_text(
        json.dumps({"losses": losses, "halves": halves, "scores": scores()})
    )
    save_file(weights, folder / f"{name}.safetensors")
    if world > 1:
        dist.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
