"""What does packing cost the model, against a record's recipe at the same bytes?

python benchmarks/pack_quality.py --seeds 3

For every seed another calibration text, training text or what the model writes, and another stretch of
validation text to score. For every size the record entry is quantized from the same Hessians and coded
as it codes (brotli: best of plain, byte-shuffled, transposed), and ours gets the bytes of that file as
its limit. Both files are decoded and scored: mean KL(fp32 ‖ packed) per byte and the change of BPB. One
JSON line a measurement, so that a run that is cut short goes on where it was; the summary is made from
the lines.
"""

from __future__ import annotations

import argparse
import json
import math
import resource
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from inputs import materials
from machine import facts, write
from pack_report import report, summary

from squeeze.artifact.file import decode, encode
from squeeze.artifact.streams import Artifact, Tensor
from squeeze.calib.quantizers.low_rank import low_rank
from squeeze.checkpoint.read import LoadedModel, load_model
from squeeze.packing.calibrate import Calibrated, Calibration, calibrate, default_tokens
from squeeze.packing.curvature import Curvature
from squeeze.packing.pack import pack_model
from squeeze.packing.presets import RECORDS, TARGETS
from squeeze.packing.quantizer import QUANTIZED, Contents
from squeeze.packing.record import RANK, kind_of, quantize_record
from squeeze.packing.request import PackRequest
from squeeze.score.tokenizer import Tokenizer
from squeeze.tensors.floats import to_bits
from squeeze.tensors.quantized import QuantizedTensor, RawTensor
from squeeze.tensors.roles import natural_key, role_by_use
from squeeze.train.data.shards import read_shard
from squeeze.train.model.gpt import GPT

COARSER = {"4.5": 0.46, "3.5": 1.0, "2.5": 1.95}  # of record-1394's steps, by bits per weight
TRAINING, VALIDATION = "fineweb_train_000000_sp1024_1M.bin", "fineweb_val_000003_sp1024_tail.bin"
TOKENIZER = "sp1024_official.model"
BATCH = 4  # windows of a forward
LEFT, RIGHT = ".left", ".right"  # factors of a low-rank correction, tensors of the file

Make = Callable[[], tuple[bytes, dict[str, Any]]]  # a file, and facts of how it came about


class Judge:
    """Scores files on one stretch of the validation tail; keeps the fp32 model's answers."""

    def __init__(self, loaded: LoadedModel, first: int, targets: int) -> None:
        span = np.asarray(read_shard(materials() / "fineweb" / VALIDATION)[first:][: targets + 1])
        tokenizer = Tokenizer(materials() / "tokenizers" / TOKENIZER)
        self.bytes = int(tokenizer.table.of_targets(span).sum())
        tokens, length = torch.from_numpy(span.astype(np.int64)), loaded.config.seq_len
        self.ids, self.next = tokens[:-1].view(-1, length), tokens[1:].view(-1, length)
        self.config = loaded.config
        answers = list(self._log_shares(GPT.from_tensors(loaded.config, loaded.tensors)))
        self.nats = sum(nats for _, nats in answers)
        self.answers = [shares for shares, _ in answers]

    def _log_shares(self, model: GPT) -> Iterator[tuple[torch.Tensor, float]]:
        with torch.inference_mode():
            for ids, targets in zip(self.ids.split(BATCH), self.next.split(BATCH), strict=True):
                shares = torch.log_softmax(model(ids), -1).flatten(0, 1)
                yield shares, float(F.nll_loss(shares, targets.flatten(), reduction="sum"))

    def __call__(self, data: bytes) -> dict[str, float]:
        """KL and gap in bits per byte of the model in a .sqz file, and the fp32 model's BPB."""
        weights = {name: t.dequantize() for name, t in decode(data).tensors.items()}
        for name in [name.removesuffix(LEFT) for name in weights if name.endswith(LEFT)]:
            weights[name] += weights.pop(name + LEFT) @ weights.pop(name + RIGHT)
        divergence = nats = 0.0
        model = GPT.from_tensors(self.config, weights)
        for right, (shares, wrong) in zip(self.answers, self._log_shares(model), strict=True):
            divergence += float((right.exp() * (right - shares)).sum(dtype=torch.float64))
            nats += wrong
        per_byte = math.log(2) * self.bytes
        gap = (nats - self.nats) / per_byte
        return {"kl": divergence / per_byte, "gap": gap, "fp32_bpb": self.nats / per_byte}


class Packer:
    """One model and its calibration, packed as a record does, small tensors in fp16."""

    def __init__(self, loaded: LoadedModel, found: Calibrated) -> None:
        self.found, self.total = found, sum(w.size for w in loaded.tensors.values())
        known = found.hessians.matrices
        matrices = {n: w for n, w in loaded.tensors.items() if n in known and w.size >= QUANTIZED}
        others: dict[str, Tensor] = {
            name: RawTensor(to_bits(weights, "fp16"), "fp16")
            for name, weights in loaded.tensors.items()
            if name not in matrices
        }
        config: dict[str, object] = {"model": json.loads(loaded.config.to_json())}
        order = tuple(sorted(loaded.tensors, key=natural_key))
        self.contents = Contents(matrices, others, order, config)
        self.curvature = Curvature.of(matrices, found.hessians, found.gradients)

    def record(self, name: str, coarser: float) -> tuple[bytes, dict[str, Any]]:
        """The file of a record entry; with the low-rank corrections of #1855 as further tensors."""
        hessians, record = self.found.hessians.matrices, RECORDS[name]
        quantized = {}
        for tensor, weights in self.contents.matrices.items():
            role = role_by_use(tensor, self.found.layout.matrices[tensor].role)
            kind = kind_of(tensor, role)
            quantized[tensor] = quantize_record(kind, weights, hessians[tensor], record, coarser)
        artifact = self.contents.artifact(quantized)
        if record.corrected:
            corrections = self._corrections(quantized, record.corrected)
            artifact = Artifact(artifact.config, artifact.tensors | corrections)
        return encode(artifact, candidates=record.coders), {}

    def _corrections(self, quantized: dict[str, QuantizedTensor], count: int) -> dict[str, Tensor]:
        """Factors in bf16, for the `count` matrices with the largest errors."""
        errors = {
            n: self.contents.matrices[n] - tensor.dequantize() for n, tensor in quantized.items()
        }
        largest = sorted(errors, key=lambda n: -float(np.square(errors[n]).sum()))[:count]
        tensors: dict[str, Tensor] = {}
        for name in largest:
            hessian, gradients = self.found.hessians.matrices[name], self.found.gradients.best(name)
            correction = low_rank(errors[name], hessian, gradients, RANK)
            tensors[name + LEFT] = RawTensor(to_bits(correction.left, "bf16"), "bf16")
            tensors[name + RIGHT] = RawTensor(to_bits(correction.right, "bf16"), "bf16")
        return tensors


def ours(loaded: LoadedModel, request: PackRequest) -> tuple[bytes, dict[str, Any]]:
    """The file that the product makes, and facts of how it came about."""
    packed = pack_model(loaded, request)
    assert packed.plan is not None
    plan, tuning = packed.plan, packed.plan.tuning
    updates = {"updates": tuning.updates} if tuning else {}
    return packed.data, {"trials": plan.trials, "expected_nats": plan.expected} | updates


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--checkpoint", default="reference_8.7M_fp32.safetensors")
    parser.add_argument("--seq-len", type=int, default=512)
    parser.add_argument("--power", type=int, default=2, help="of the mlp's activation")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--sizes", nargs="*", default=list(COARSER), choices=list(COARSER))
    parser.add_argument("--presets", nargs="*", default=["best", "tuned"], choices=list(TARGETS))
    parser.add_argument(
        "--records", nargs="*", default=["record-374", "record-1855", "record-1908"],
        help="peers at their own bytes, for one seed",
    )  # fmt: skip
    parser.add_argument(
        "--fractions", nargs="*", type=float, default=[0.7, 0.5],
        help="of the smallest size, packed once too: how few bytes keep the record's KL",
    )  # fmt: skip
    parser.add_argument("--tune", type=int, help="updates of `tuned`, instead of its own number")
    parser.add_argument("--targets", type=int, default=65_536, help="scored for each seed")
    parser.add_argument("--calibration-tokens", type=int, default=0, help="0: the product's own")
    parser.add_argument("--source", choices=["shards", "self"], default="shards")
    parser.add_argument("--temperature", type=float, default=1.0, help="of what the model writes")
    parser.add_argument("--folder", type=Path, help="keeps calibrations and lines between runs")
    parser.add_argument("--name", default="pack")
    options = parser.parse_args()
    path, fields = materials() / "checkpoints" / options.checkpoint, {"mlp_power": options.power}
    loaded = load_model(path, like="baseline", seq_len=options.seq_len, **fields)
    folder = options.folder or Path(tempfile.mkdtemp())
    folder.mkdir(parents=True, exist_ok=True)
    lines = Lines(folder / "lines.jsonl")
    sizes = [(size, "record-1394", COARSER[size]) for size in options.sizes]
    once = [(record, record, 1.0) for record in options.records]
    less = {f"{fraction:g} of 2.5": fraction for fraction in options.fractions}
    data = (str(materials() / "fineweb" / TRAINING),) if options.source == "shards" else ()

    def presets_at(size: str) -> list[str]:
        # tuning takes minutes: only where there are several seeds
        return [p for p in options.presets if size in COARSER or p != "tuned"]

    for seed in range(options.seeds):
        settings = Calibration(
            options.source, options.calibration_tokens, seed=seed, data=data,
            temperature=options.temperature,
        )  # fmt: skip
        cells = sizes + once if seed == 0 else sizes
        every = [(size, what) for size, peer, _ in cells for what in (peer, *presets_at(size))]
        every += [(size, what) for size in less for what in presets_at(size) if seed == 0]
        if all(lines.find(seed=seed, size=size, what=what) for size, what in every):
            continue
        started = time.process_time()
        cache = folder / f"seed{seed}"
        packer = Packer(loaded, calibrate(loaded, settings, cache))
        calibrated = {"calibrated_cpu_s": time.process_time() - started}
        judge = Judge(loaded, seed * options.targets, options.targets)
        for size, record, coarser in cells:
            cell = {"seed": seed, "size": size, "weights": packer.total}
            make: Make = partial(packer.record, record, coarser)
            peer = measure(lines, judge, make, cell | {"what": record} | calibrated)
            limits = {size: peer["bytes"]}
            if seed == 0 and size == "2.5":
                limits |= {smaller: int(share * peer["bytes"]) for smaller, share in less.items()}
            for place, limit in limits.items():
                for preset in presets_at(place):
                    tune = options.tune if preset == "tuned" else None
                    request = PackRequest(
                        limit, preset, calibration=settings, cache=cache, tune=tune
                    )
                    make = partial(ours, loaded, request)
                    line = cell | {"size": place, "what": preset, "limit": limit}
                    measure(lines, judge, make, line)
    head = {"checkpoint": options.checkpoint, "calibrated_on": options.source}
    tokens = options.calibration_tokens or default_tokens(loaded.config.num_params)
    head |= {"calibration_tokens": tokens, "targets_a_seed": options.targets}
    head |= {"peak_MiB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10}
    write(options.name, head | {"summary": summary(lines.known), "lines": lines.known})
    report(lines.known, head, f"{facts()['date']}-{options.name}")


def measure(lines: Lines, judge: Judge, make: Make, line: dict[str, Any]) -> dict[str, Any]:
    """Make a file and score it, unless `lines` know its seed, size and what it is."""
    known = lines.find(**{key: line[key] for key in ("seed", "size", "what")})
    if known is not None:
        return known
    wall, cpu = time.perf_counter(), time.process_time()
    data, more = make()
    line |= {"seconds": time.perf_counter() - wall, "cpu_s": time.process_time() - cpu}
    line |= {"bytes": len(data), "bits_per_weight": 8 * len(data) / line["weights"]}
    return lines.add(line | more | judge(data))


class Lines:
    """Measurements, each kept in a file as soon as it is made."""

    def __init__(self, path: Path) -> None:
        self.path = path
        text = path.read_text() if path.exists() else ""
        self.known: list[dict[str, Any]] = [json.loads(line) for line in text.splitlines()]

    def find(self, **wanted: Any) -> dict[str, Any] | None:
        """The first with these values."""
        return next((x for x in self.known if all(x.get(k) == v for k, v in wanted.items())), None)

    def add(self, line: dict[str, Any]) -> dict[str, Any]:
        """Keep one, and print it."""
        self.known.append(line)
        print(json.dumps(line), flush=True)
        with self.path.open("a") as file:
            file.write(json.dumps(line) + "\n")
        return line


if __name__ == "__main__":
    main()
