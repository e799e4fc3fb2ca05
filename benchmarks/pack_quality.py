"""What does packing cost the model, against a record's recipe at the same bytes?

python benchmarks/pack_quality.py --seeds 5

For every seed another calibration text, training text or what the model writes; for every size the
record entry is quantized from the same Hessians and coded with brotli (best of plain, byte-shuffled,
transposed), and ours gets the bytes of that file as its limit. Both files are decoded and scored on
validation text: mean KL(fp32 ‖ packed) per byte and the change of BPB. One JSON line a measurement, so
that a run that is cut short has said what it knows; the summary is made from the lines.
"""

from __future__ import annotations

import argparse
import json
import math
import resource
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from inputs import ROOT, materials
from machine import facts, write

from squeeze.artifact import Artifact, Tensor, decode, encode
from squeeze.calib.floats import to_bits
from squeeze.calib.quantized import RawTensor
from squeeze.calib.records import RECORDS, quantize_record
from squeeze.calibrate import Calibrated, Calibration, calibrate
from squeeze.checkpoint import LoadedModel, load_checkpoint, load_model
from squeeze.score.tokenizer import Tokenizer
from squeeze.target import PRESETS, QUANTIZED, pack_to_target
from squeeze.train.data import read_shard
from squeeze.train.model import GPT

COARSER = {"4.5": 0.46, "3.5": 1.0, "2.5": 1.95}  # of record-1394's steps, by bits per weight
TRAINING, VALIDATION = "fineweb_train_000000_sp1024_1M.bin", "fineweb_val_000003_sp1024_tail.bin"
BATCH = 16  # windows of a forward


class Judge:
    """Scores files on the first `targets` of the validation tail; keeps the fp32 model's answers."""

    def __init__(self, loaded: LoadedModel, targets: int) -> None:
        shard = read_shard(materials() / "fineweb" / VALIDATION)
        span, length = np.asarray(shard[: targets + 1]), loaded.config.seq_len
        tokenizer = Tokenizer(materials() / "tokenizers" / "sp1024_official.model")
        self.bytes = int(tokenizer.table.of_targets(span).sum())
        tokens = torch.from_numpy(span.astype(np.int64))
        self.ids, self.next = tokens[:-1].view(-1, length), tokens[1:].view(-1, length)
        self.config = loaded.config
        model = GPT.from_tensors(loaded.config, loaded.tensors)
        answers = list(self._log_shares(model))
        self.nats = sum(nats for _, nats in answers)
        self.answers = [shares.half() for shares, _ in answers]

    def _log_shares(self, model: GPT) -> Iterator[tuple[torch.Tensor, float]]:
        with torch.inference_mode():
            for ids, targets in zip(self.ids.split(BATCH), self.next.split(BATCH), strict=True):
                shares = torch.log_softmax(model(ids), -1).flatten(0, 1)
                yield shares, float(F.nll_loss(shares, targets.flatten(), reduction="sum"))

    def __call__(self, data: bytes) -> dict[str, float]:
        """KL and gap in bits per byte of the model in a .sqz file."""
        weights = {name: t.dequantize() for name, t in decode(data).tensors.items()}
        divergence = nats = 0.0
        model = GPT.from_tensors(self.config, weights)
        for right, (shares, wrong) in zip(self.answers, self._log_shares(model), strict=True):
            wide = right.float()
            divergence += float((wide.exp() * (wide - shares)).sum())
            nats += wrong
        per_byte = math.log(2) * self.bytes
        return {"kl": divergence / per_byte, "gap": (nats - self.nats) / per_byte}


def record_file(loaded: LoadedModel, found: Calibrated, name: str, coarser: float) -> bytes:
    """The model as a record entry stores it, in our container."""
    record, tensors = RECORDS[name], dict[str, Tensor]()
    for tensor, weights in loaded.tensors.items():
        if tensor in found.hessians.matrices and weights.size >= QUANTIZED:
            hessian = found.hessians.matrices[tensor]
            tensors[tensor] = quantize_record(tensor, weights, hessian, record, coarser)
        else:
            tensors[tensor] = RawTensor(to_bits(weights, "fp16"), "fp16")
    config = {"model": json.loads(loaded.config.to_json())}
    return encode(Artifact(config, tensors), candidates=record.coders)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--checkpoint", default="reference_8.7M_fp32.safetensors")
    parser.add_argument("--seq-len", type=int, default=512)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--sizes", nargs="+", default=list(COARSER), choices=list(COARSER))
    parser.add_argument("--presets", nargs="+", default=list(PRESETS), choices=list(PRESETS))
    parser.add_argument("--records", nargs="*", default=["record-374", "record-1855"])
    parser.add_argument("--targets", type=int, default=131_072)
    parser.add_argument("--calibration-tokens", type=int, default=131_072)
    parser.add_argument("--source", choices=["shards", "self"], default="shards")
    parser.add_argument("--temperature", type=float, default=1.0, help="of what the model writes")
    parser.add_argument("--folder", type=Path, help="keeps calibrations and lines between runs")
    parser.add_argument("--name", default="pack")
    options = parser.parse_args()
    path = materials() / "checkpoints" / options.checkpoint
    loaded, checkpoint = load_model(path, seq_len=options.seq_len), load_checkpoint(path)
    folder = options.folder or Path(tempfile.mkdtemp())
    folder.mkdir(parents=True, exist_ok=True)
    lines_file = folder / "lines.jsonl"
    lines = (
        [json.loads(s) for s in lines_file.read_text().splitlines()] if lines_file.exists() else []
    )
    judge = Judge(loaded, options.targets)
    weights = sum(w.size for w in loaded.tensors.values())

    def measure(data: bytes, **line: Any) -> None:
        line |= {"bytes": len(data), "bits_per_weight": 8 * len(data) / weights, **judge(data)}
        lines.append(line)
        print(json.dumps(line), flush=True)
        with lines_file.open("a") as file:
            file.write(json.dumps(line) + "\n")

    def known(**wanted: Any) -> dict[str, Any] | None:
        return next((x for x in lines if all(x.get(k) == v for k, v in wanted.items())), None)

    for seed in range(options.seeds):
        settings = Calibration(
            options.source, options.calibration_tokens, seed=seed, temperature=options.temperature,
            data=(str(materials() / "fineweb" / TRAINING),) if options.source == "shards" else (),
        )  # fmt: skip
        place, started = folder / f"seed{seed}", time.perf_counter()
        found = calibrate(loaded, settings, place)
        calibrated = time.perf_counter() - started
        for size in options.sizes:
            here = {"seed": seed, "size": size}
            if not (peer := known(**here, what="record-1394")):
                data = record_file(loaded, found, "record-1394", COARSER[size])
                measure(data, **here, what="record-1394", calibrated_s=calibrated)
                peer = lines[-1]
            for preset in options.presets:
                if known(**here, what=preset):
                    continue
                started = time.perf_counter()
                packed = pack_to_target(checkpoint, loaded, peer["bytes"], preset, settings, place)
                seconds = time.perf_counter() - started
                measure(
                    packed.data, **here, what=preset, limit=peer["bytes"], seconds=seconds,
                    expected=packed.expected / math.log(2) * options.targets / judge.bytes,
                )  # fmt: skip
        for record in options.records if seed == 0 else ():
            if not known(seed=seed, what=record):
                measure(record_file(loaded, found, record, 1.0), seed=seed, size="own", what=record)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
    bpb = judge.nats / math.log(2) / judge.bytes
    head = {"checkpoint": options.checkpoint, "targets": options.targets, "fp32_bpb": bpb}
    head |= {"calibrated_on": options.source, "calibration_tokens": options.calibration_tokens}
    write(options.name, head | {"peak_MiB": peak, "summary": summary(lines), "lines": lines})
    draw(lines, bpb, ROOT / "benchmarks" / "results" / f"{facts()['date']}-{options.name}.png")


def summary(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Mean and standard deviation over the seeds, and the share of the peer's KL at equal bytes."""
    rows = []
    for size, what in sorted({(x["size"], x["what"]) for x in lines}):
        here = [x for x in lines if (x["size"], x["what"]) == (size, what)]
        peer = {x["seed"]: x for x in lines if (x["size"], x["what"]) == (size, "record-1394")}
        row: dict[str, Any] = {"size": size, "what": what, "n": len(here)}
        for key in ("bytes", "bits_per_weight", "kl", "gap"):
            values = np.array([x[key] for x in here])
            row |= {key: values.mean(), f"{key}_sd": values.std(ddof=1) if len(here) > 1 else None}
        if peer:
            shares = np.array([x["kl"] / peer[x["seed"]]["kl"] for x in here])
            row |= {"kl_share": shares.mean(), "kl_share_largest": shares.max()}
            row["unused"] = max(peer[x["seed"]]["bytes"] - x["bytes"] for x in here)
        rows.append(row)
    return rows


def draw(lines: list[dict[str, Any]], bpb: float, path: Path) -> None:
    """KL and BPB against bytes, a point a measurement."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
    for what in sorted({x["what"] for x in lines}):
        mine = sorted((x for x in lines if x["what"] == what), key=lambda x: x["bytes"])
        megabytes = [x["bytes"] / 1e6 for x in mine]
        left.plot(megabytes, [x["kl"] for x in mine], ".", label=what)
        right.plot(megabytes, [bpb + x["gap"] for x in mine], ".", label=what)
    right.axhline(bpb, color="gray", linewidth=0.8, label="fp32")
    left.set(yscale="log", ylabel="KL(fp32 ‖ packed), bits per byte", xlabel="file, megabytes")
    right.set(ylabel="BPB", xlabel="file, megabytes")
    left.legend()
    right.legend()
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    main()
