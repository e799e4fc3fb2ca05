"""The script of a submission: trains, packs and scores by itself, where squeeze is not installed.

`squeeze bundle` makes it `train_gpt.py`. Needs torch, numpy, numba and sentencepiece.

    python train_gpt.py                 train, write model.sqz beside this file, decode and score it
    python train_gpt.py --eval          decode model.sqz and score it
    python train_gpt.py --serve         answer an auditor (docs/protocol.md)

Environment: DATA_PATH (folder of fineweb_train_*.bin and fineweb_val_*.bin), TOKENIZER_PATH, SEED.
Options, each followed by its value: data, val, tokenizer (instead of those); seed, seconds, steps;
limit (bytes of code and model together); mode (window, sliding, ttt-lora), stride; tokens (score so many
targets only). Under torchrun all processes share the work. All that is printed also goes to train.log.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import time
from functools import partial
from glob import glob
from pathlib import Path
from typing import Any

import torch

from squeeze.calib.fisher import collect_gradients
from squeeze.calib.floats import Float32, to_bits
from squeeze.calib.generate import generate
from squeeze.calib.inputs import InputSums
from squeeze.calib.quantized import QuantizedTensor, RawTensor
from squeeze.calib.ranks import all_ranks
from squeeze.calib.text import Sequences, window_length
from squeeze.codecs.base import Codec
from squeeze.codecs.context import Context
from squeeze.codecs.context_words import ContextWords
from squeeze.container import StreamRecord, TensorRecord
from squeeze.fit import fit
from squeeze.quantizer import QUANTIZED, Model, Quantizer
from squeeze.score import protocol
from squeeze.score.lora import LoraOptions
from squeeze.score.official import official_set
from squeeze.score.plan import document_spans, sliding
from squeeze.score.served import Adapting, Windows
from squeeze.score.tokenizer import ByteTable, Tokenizer, Tokens
from squeeze.score.ttt_lora import LoraPredictor, score_lora
from squeeze.score.window import Score, score_plan
from squeeze.streams import Artifact, Coded, CodeStreams, Symbols, read, write
from squeeze.train.cache import Cache
from squeeze.train.clock import Clock
from squeeze.train.config import ModelConfig
from squeeze.train.course import Course
from squeeze.train.data import map_shard, read_shards
from squeeze.train.distributed import Ranks, connected
from squeeze.train.model import GPT
from squeeze.train.recipe import Recipe
from squeeze.train.trainer import Trainer

# What a submission is made with; `squeeze submit` puts its own here. Fields of `ModelConfig` and
# `Recipe` that are not at their defaults.
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
MODE = "window"  # how to score

STRIDE = 64  # of sliding windows
REPORT_EVERY = 10.0  # seconds between two lines about training


class Coding:
    """The context coders alone: what the whole choice gains over them is under 0.3 % (docs/log.md)."""

    words = ContextWords()

    def find(self, name: str, scale: float, states: int) -> None:
        """Nothing is kept."""

    def code(
        self, name: str, scale: float, states: int, tensor: QuantizedTensor
    ) -> tuple[QuantizedTensor, Coded]:
        """See `squeeze.quantizer.Coder`."""
        coded: CodeStreams = {}
        self.file(Artifact({}, {name: tensor}), coded, False)
        return tensor, coded[name]

    def file(self, artifact: Artifact, known: CodeStreams, floats: bool) -> bytes:
        """See `squeeze.quantizer.Coder`."""
        return write(artifact, self._stream, known)

    def _stream(self, stream: StreamRecord, record: TensorRecord, symbols: Symbols) -> Coded:
        matrices = stream.kind in ("codes", "column")
        codec = Context(record.states if stream.kind == "codes" else 0) if matrices else self.words
        return codec.wire_id, codec.encode(symbols)

    def codec(self, wire_id: int) -> Codec:
        """The codec of a number in a file."""
        return self.words if wire_id == self.words.wire_id else Context()


class Submission:
    """One run of the script: files, options and what is written about it."""

    def __init__(self, script: Path, given: dict[str, str]) -> None:
        self.script, self.given = script, given
        self.path = script.with_name("model.sqz")
        self.log = script.with_name("train.log")
        self.config = ModelConfig(**MODEL)
        self.seed = int(given.get("seed") or os.environ.get("SEED", "0"))

    def shards(self, part: str) -> list[str]:
        """Files of the training or validation set."""
        folder = os.environ.get("DATA_PATH", "data")
        option = {"train": "data"}.get(part, part)
        found = sorted(glob(self.given.get(option, f"{folder}/fineweb_{part}_*.bin")))
        if not found:
            raise SystemExit(f"no shards in {folder}: set DATA_PATH or --{option}")
        return found

    def say(self, line: str) -> None:
        """Print a line, and keep it."""
        print(line, flush=True)
        with self.log.open("a") as file:
            file.write(line + "\n")

    def train(self, ranks: Ranks, clock: Clock) -> dict[str, Float32]:
        """Weights of a new model, float32 by name."""
        limits: dict[str, Any] = {}
        if "steps" in self.given:
            limits = {"steps": int(self.given["steps"]), "budget_seconds": 0, "reserve_seconds": 0}
        if "seconds" in self.given:
            limits["budget_seconds"] = float(self.given["seconds"])
        recipe = Recipe(**RECIPE | limits)
        shards = [map_shard(path) for path in self.shards("train")]
        compiled = ranks.device.type == "cuda"
        trainer = Trainer(self.config, shards, recipe, self.seed, ranks, compiled)
        said = -REPORT_EVERY
        for seen in Course(trainer, clock).steps():
            if ranks.first and seen.training >= said + REPORT_EVERY:
                said = seen.training
                self.say(
                    f"step:{seen.step} train_loss:{seen.loss:.4f} train_time:{1e3 * said:.0f}ms"
                )
        if ranks.first:
            self.say(f"steps:{trainer.done} train_time:{1e3 * clock.of('training'):.0f}ms")
        with clock.stage("averaging"):
            return {name: weight.numpy() for name, weight in trainer.weights().items()}

    def pack(self, weights: dict[str, Float32], ranks: Ranks) -> None:
        """Write model.sqz: calibrated on text that the model writes, within the limit."""
        model = GPT.from_tensors(self.config, weights).to(ranks.device).eval()
        length = window_length(self.config.seq_len)
        count = -(-CALIBRATION_TOKENS // length)
        ids = generate(partial(Cache, model), self.config.vocab_size, count, length, seed=self.seed)
        text = Sequences.whole(ids, "self-generated")
        sums = InputSums(model, text)
        for _ in sums:
            pass
        hessians, gradients = sums.hessians(), collect_gradients(model, text)
        if not ranks.first:
            return
        matrices = {
            name: weights[name] for name in hessians.matrices if weights[name].size >= QUANTIZED
        }
        others = {
            name: RawTensor(to_bits(values, "fp16"), "fp16")
            for name, values in weights.items()
            if name not in matrices
        }
        whole = Model(matrices, others, tuple(weights), {"model": MODEL})
        limit = int(self.given.get("limit", LIMIT)) - self.script.stat().st_size
        fitted = fit(Quantizer(whole, hessians, gradients, STATES, Coding()), limit)
        self.path.write_bytes(fitted.data)

    def model(self, device: torch.device) -> GPT:
        """The model that model.sqz holds."""
        tensors = read(self.path.read_bytes(), Coding().codec).tensors
        weights = {name: tensor.dequantize() for name, tensor in tensors.items()}
        return GPT.from_tensors(self.config, weights).to(device).eval()

    def serving(self, model: GPT) -> Windows | Adapting:
        """How the model is scored, and what answers an auditor about it."""
        mode, length = self.given.get("mode", MODE), self.config.seq_len
        options = LoraOptions(chunk=min(256, length), length=min(length, length))
        stride = length if mode == "window" else int(self.given.get("stride", min(STRIDE, length)))

        def score(tokens: Tokens, table: ByteTable) -> Score:
            if mode == "ttt-lora":
                documents = document_spans(tokens, self.config.bos_id)
                return score_lora(model, tokens, table, documents, options)[0]
            return score_plan(model, tokens, table, sliding(len(tokens) - 1, length, stride))

        if mode == "ttt-lora":
            new = partial(LoraPredictor, model, options)
            return Adapting(model, score, options.chunk, lambda targets: new(), isolated=True)
        return Windows(model, score, length, stride)

    def evaluate(self, ranks: Ranks) -> dict[str, Any]:
        """The score of model.sqz on the validation set."""
        path = self.given.get("tokenizer") or os.environ.get("TOKENIZER_PATH", "tokenizer.model")
        table = Tokenizer(path).table
        most = self.given.get("tokens")
        tokens = read_shards(self.shards("val"), int(most) + 1 if most else None)
        official = None if most else official_set(tokens, table)
        if official:
            tokens = tokens[: official[1] + 1]
        score = self.serving(self.model(ranks.device)).score(tokens, table)
        return {"bpb": score.bpb, "nats": score.nats, "tokens": score.tokens, "bytes": score.bytes}

    def report(self, clock: Clock, scored: dict[str, Any]) -> None:
        """Say everything that a ledger needs."""
        files = {path.name: path.read_bytes() for path in (self.script, self.path)}
        sizes = {name: len(data) for name, data in files.items()}
        facts = {
            "mode": self.given.get("mode", MODE),
            "seed": self.seed,
            **scored,
            "files": sizes,
            "bytes_total": sum(sizes.values()),
            "sha256": {name: hashlib.sha256(data).hexdigest() for name, data in files.items()},
            "clock": [
                {"stage": row.stage, "seconds": round(row.seconds, 3), "inside": row.inside}
                for row in clock.ledger()
            ],
        }
        self.say(f"val_bpb: {scored['bpb']:.12f}")
        self.say(json.dumps(facts))


def main() -> None:
    """Read the command line and run."""
    given: dict[str, str] = {}
    name = ""
    for text in sys.argv[1:]:
        if text.startswith("--"):
            name, text = text[2:], ""
        given[name] = text
    submission = Submission(Path(__file__), given)
    if "serve" in given:
        torch.set_num_threads(1)
        protocol.serve(submission.serving(submission.model(torch.device("cpu"))))
        return
    clock = Clock()
    with connected(torch.device("cuda" if torch.cuda.is_available() else "cpu")) as ranks:
        if "eval" not in given:
            if ranks.first:
                submission.log.unlink(missing_ok=True)
                submission.path.unlink(missing_ok=True)
            weights = submission.train(ranks, clock)
            with clock.stage("packing"):
                submission.pack(weights, ranks)
                while not submission.path.exists():  # the first rank packs
                    time.sleep(1.0)
            all_ranks(True)
        with clock.stage("validation"):
            scored = submission.evaluate(ranks)
        if ranks.first:
            submission.report(clock, scored)


if __name__ == "__main__":
    main()
