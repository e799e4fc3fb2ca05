"""The script of a submission: trains, packs and scores by itself, where squeeze is not installed.

`squeeze bundle` makes it `train_gpt.py`. Needs torch, numpy, numba and sentencepiece.

    python train_gpt.py                 train, write model.sqz beside this file, decode and score it
    python train_gpt.py --eval          decode model.sqz and score it
    python train_gpt.py --serve         answer an auditor (docs/protocol.md)

Environment: DATA_PATH (folder of fineweb_train_*.bin and fineweb_val_*.bin), TOKENIZER_PATH, SEED.
Options, each followed by its value: train, val (patterns of shards), tokenizer, seed (instead of
those); seconds, steps; limit (bytes of code and model together); tokens (score only so many targets).
Under torchrun all processes share the work. What a training run prints is also in train.log.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from glob import glob
from hashlib import sha256
from pathlib import Path
from typing import Any, TextIO

import numpy as np
import torch

from squeeze.artifact.container import checksum
from squeeze.artifact.streams import decode_with
from squeeze.calib.statistics.fisher import collect_gradients
from squeeze.calib.statistics.inputs import InputSums
from squeeze.calib.statistics.whole import whole_model
from squeeze.calib.text.generate import generate
from squeeze.calib.text.sources import Sequences, window_length
from squeeze.packing.curvature import Curvature
from squeeze.packing.fit import fit
from squeeze.packing.quantizer import QUANTIZED, Contents, Quantizer
from squeeze.ranks.connect import connected, resolve_device
from squeeze.ranks.group import Ranks
from squeeze.score.adapt.by_document import LoraPredictor, score_lora
from squeeze.score.adapt.options import LoraOptions
from squeeze.score.official import official_set
from squeeze.score.plan import document_spans, sliding
from squeeze.score.serving import protocol
from squeeze.score.serving.served import Adapting, Windows
from squeeze.score.tokenizer import ByteTable, Text, Tokens, read_table
from squeeze.score.window import Score, score_plan
from squeeze.submit.coding import Coding
from squeeze.tensors.floats import Float32, to_bits
from squeeze.tensors.quantized import RawTensor
from squeeze.train.data.shards import map_shard
from squeeze.train.model.cache import Cache
from squeeze.train.model.config import ModelConfig
from squeeze.train.model.gpt import GPT
from squeeze.train.optim.recipe import Recipe
from squeeze.train.run.clock import Clock
from squeeze.train.run.course import Course
from squeeze.train.run.trainer import Trainer

# Settings of a submission; `squeeze submit` puts its own here. Fields of `ModelConfig` and `Recipe`
# that are not at their defaults.
MODEL: dict[str, Any] = {
    "vocab_size": 8192,
    "num_layers": 11,
    "model_dim": 512,
    "num_heads": 8,
    "num_kv_heads": 4,
    "mlp_hidden": 2048,
    "seq_len": 2048,
    "layer_schedule": (0, 1, 2, 3, 4, 5, 3, 4, 5, 3, 4, 5, 6, 7, 8, 9, 10),
    "rope_dims": 16,
    "q_gain_init": 5.25,
    "xsa_layers": 11,
    "mlp_slope": 0.5,
    "norm_scale": True,
    "skip_gates": True,
    "parallel": "sum",
    "parallel_from": 7,
}
RECIPE: dict[str, Any] = {
    "budget_seconds": 600.0,
    "reserve_seconds": 12.0,
    "batch_tokens": 786_432,
    "matrix_lr": 0.022,
    "matrix_decay": 0.095,
    "momentum": 0.99,
    "momentum_start": 0.92,
    "momentum_warmup": 1500,
    "row_normalize": True,
    "table_lr": 0.03,
    "small_lr": 0.02,
    "table_decay": 0.085,
    "small_decay": 0.02,
    "warmup": 0.0,
    "warmdown": 0.72,
    "grad_clip": 0.3,
    "recurrence_start": 0.35,
    "average": "ema",
    "ema_decay": 0.9965,
}
LIMIT = 16_000_000  # bytes of this file and model.sqz
STATES = 32  # of the trellis
CALIBRATION_TOKENS = 32_768
MODE = "window"  # of scoring: window, sliding or ttt-lora
STRIDE = 64  # of sliding windows
REPORT_EVERY = 10.0  # seconds between two lines about training
Say = Callable[[str], None]


def shards(given: dict[str, str], part: str) -> list[Tokens]:
    """Return the shards of the training or validation set, uint16 [n] each, on disk."""
    pattern = os.environ.get("DATA_PATH", "data") + f"/fineweb_{part}_*.bin"
    paths = sorted(glob(given.get(part, pattern)))
    if not paths:
        raise SystemExit(f"no shards {pattern}: set DATA_PATH or --{part}")
    return [map_shard(path) for path in paths]


def train(
    config: ModelConfig, given: dict[str, str], seed: int, ranks: Ranks, clock: Clock, say: Say
) -> dict[str, Float32]:
    """Train a new model; return its weights, float32 by name."""
    recipe = Recipe(**RECIPE)
    if "steps" in given:
        steps = int(given["steps"])
        recipe = replace(recipe, steps=steps, budget_seconds=0.0, reserve_seconds=0.0)
    if "seconds" in given:
        recipe = replace(recipe, budget_seconds=float(given["seconds"]))
    trainer = Trainer(config, shards(given, "train"), recipe, seed, ranks)
    if ranks.device.type == "cuda":
        trainer.compile_()
    printed = 0.0
    for step in Course(trainer, clock).steps():
        seconds = clock.of("training")
        if step.step == 1 or seconds > printed + REPORT_EVERY:
            printed = seconds
            say(f"step:{step.step} train_loss:{step.loss:.4f} train_time:{1000 * seconds:.0f}ms")
    say(f"steps:{trainer.done} train_time:{1000 * clock.of('training'):.0f}ms")
    with clock.stage("averaging"):
        return {name: weight.numpy() for name, weight in trainer.weights().items()}


def pack(
    config: ModelConfig, weights: dict[str, Float32], seed: int, limit: int, ranks: Ranks
) -> bytes:
    """Return a file of at most `limit` bytes on the first rank, calibrated on self-generated text."""
    model = GPT.from_tensors(config, weights).to(ranks.device).eval()
    length = window_length(config.seq_len)
    count = -(-CALIBRATION_TOKENS // length)
    ids = generate(partial(Cache, model), config.vocab_size, count, length, seed=seed)
    text = Sequences(ids, "self-generated")
    tapped = whole_model(
        model,
        lambda module, ids: module(ids),
        torch.zeros(1, 1, dtype=torch.int64, device=ranks.device),
    )
    hessians, gradients = InputSums(tapped, text).hessians(), collect_gradients(tapped, text)
    if not ranks.first:
        return b""
    matrices = {n: w for n, w in weights.items() if n in hessians.matrices and w.size >= QUANTIZED}
    others = {
        name: RawTensor(to_bits(values, "fp16"), "fp16")
        for name, values in weights.items()
        if name not in matrices
    }
    contents = Contents(matrices, others, tuple(weights), {"model": dict(MODEL)})
    # the other ranks wait, and torchrun gives each process one thread
    torch.set_num_threads(ranks.world * torch.get_num_threads())
    curvature = Curvature.of(matrices, hessians, gradients)
    return fit(Quantizer(contents, curvature, STATES, Coding()), limit).data


def scored(model: GPT) -> Windows | Adapting:
    """Return the scorer of a model, which answers an auditor, too."""
    length = model.config.seq_len
    if MODE == "ttt-lora":
        options = LoraOptions(chunk=min(256, length), length=length)

        def adapt(tokens: Tokens, table: ByteTable) -> Score:
            documents = document_spans(tokens, model.config.bos_id)
            return score_lora(model, Text(tokens, table), documents, options)[0]

        predictor = partial(LoraPredictor, model, options)
        return Adapting(model, adapt, options.chunk, lambda targets: predictor(), True)
    stride = length
    if MODE == "sliding":
        stride = min(STRIDE, length)

    def score(tokens: Tokens, table: ByteTable) -> Score:
        plan = sliding(len(tokens) - 1, length, stride)
        return score_plan(model, Text(tokens, table), plan, led=stride < length)

    return Windows(model, score, length, stride)


def evaluate(model: GPT, given: dict[str, str]) -> Score:
    """Return the score on the validation set, or on its first `tokens` targets."""
    pieces = given.get("tokenizer") or os.environ.get("TOKENIZER_PATH", "tokenizer.model")
    table, tokens = read_table(pieces), np.concatenate(shards(given, "val"))
    official = official_set(tokens, table)
    count = int(given.get("tokens", official[1] if official else len(tokens) - 1))
    return scored(model).score(tokens[: count + 1], table)


def main() -> None:
    """Read the command line and run."""
    words = sys.argv[1:]
    given = {word[2:]: value for word, value in zip(words, [*words, ""][1:], strict=True)}
    script = Path(__file__)
    path = script.with_name("model.sqz")
    config = ModelConfig(**MODEL)
    seed = int(given.get("seed") or os.environ.get("SEED", "0"))

    def packed() -> GPT:
        data = path.read_bytes()
        if checksum(data) != data[10:14]:
            raise SystemExit("model.sqz is damaged")
        tensors = decode_with(data, Coding().codec).tensors
        weights = {name: tensor.dequantize() for name, tensor in tensors.items()}
        return GPT.from_tensors(config, weights).eval()

    if "serve" in given:
        torch.set_num_threads(1)
        return protocol.serve(scored(packed()))
    outputs: list[TextIO] = []

    def say(line: str) -> None:
        for output in outputs:
            print(line, file=output, flush=True)

    clock = Clock()
    with connected(resolve_device()) as ranks:
        if ranks.first:
            outputs = [sys.stdout]
        if "eval" not in given:
            if ranks.first:
                outputs.append(script.with_name("train.log").open("w"))
                path.unlink(missing_ok=True)
            weights = train(config, given, seed, ranks, clock, say)
            with clock.stage("packing"):
                limit = int(given.get("limit", LIMIT)) - script.stat().st_size
                data = pack(config, weights, seed, limit, ranks)
                if ranks.first:
                    path.with_suffix(".part").write_bytes(data)
                    path.with_suffix(".part").replace(path)
                # the first rank packs, which no collective should wait for
                while not path.exists():
                    time.sleep(1.0)
        with clock.stage("validation"):
            score = evaluate(packed().to(ranks.device), given)
        sizes, hashes = {}, {}
        for file in (script, path):
            data = file.read_bytes()
            sizes[file.name], hashes[file.name] = len(data), sha256(data).hexdigest()
        facts = {
            "bpb": score.bpb,
            "nats": score.nats,
            "tokens": score.tokens,
            "bytes": score.bytes,
            "mode": MODE,
            "seed": seed,
            "files": sizes,
            "bytes_total": sum(sizes.values()),
            "sha256": hashes,
            "clock": [
                {"stage": row.stage, "seconds": row.seconds, "inside": row.inside}
                for row in clock.ledger()
            ],
        }
        say(f"val_bpb: {score.bpb:.12f}")
        say(json.dumps(facts))


if __name__ == "__main__":
    main()
