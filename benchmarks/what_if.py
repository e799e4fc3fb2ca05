"""Does `squeeze budget --what-if` foresee what a real pack would be?

python benchmarks/what_if.py

Packs a checkpoint once, asks its plan for other bits and makes each of those files: the quantizer at
the scales that the answer names. Bytes are compared with the file's, the change of cost with the mean
KL(fp32 ‖ packed) on validation text, whose noise is a few per cent. The change of bits per byte stands
beside it with its standard error (of the change in nats from token to token), which is often larger than
the change itself. The predictor has seen none of these files and no validation text.
"""

from __future__ import annotations

import argparse
import math
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from inputs import materials
from report import write_report

from squeeze.artifact.file import decode
from squeeze.checkpoint.read import load_model
from squeeze.files import hash_of
from squeeze.files.sources import code_sha256
from squeeze.packing.calibrate import Calibration, calibrate, content_key
from squeeze.packing.curvature import Curvature
from squeeze.packing.fit import at_scales
from squeeze.packing.kept import KeptCodes
from squeeze.packing.pack import pack_model
from squeeze.packing.plan import Plan
from squeeze.packing.presets import TARGETS
from squeeze.packing.quantizer import Quantizer
from squeeze.packing.request import PackRequest
from squeeze.packing.session import in_unit_order
from squeeze.packing.target import contents_of
from squeeze.score.padding import TextBytes
from squeeze.score.tokenizer import Tokenizer
from squeeze.subject.workpiece import Workpiece
from squeeze.train.data.shards import read_shard
from squeeze.train.model.config import ModelConfig
from squeeze.train.model.gpt import GPT
from squeeze.views.what_if import WhatIf, foresee, parse

PLANS = (
    "mlp.fc=2.5bit",
    "mlp.fc=4bit",
    "mlp.proj=2bit",
    "attn=x1.25",
    "attn.q=2.5bit,attn.k=2.5bit",
    "tok_emb=int7",
    "blocks.0=3.5bit",
    "attn=3bit,mlp=3bit",
    "mlp.fc=2.5bit,attn=x1.2,tok_emb=5bit",
    "*=x0.8",
    "*=x0.6",
)
BYTES, COST = 0.02, 0.3  # allowed errors: of the bytes, of the change of cost
VALIDATION, TOKENIZER = "fineweb_val_000003_sp1024_tail.bin", "sp1024_official.model"
BATCH = 8  # windows of a forward


class Judge:
    """Nats of every target and divergence from the fp32 model, of files, on validation text."""

    def __init__(self, config: ModelConfig, reference: GPT, targets: int) -> None:
        span = np.asarray(read_shard(materials() / "fineweb" / VALIDATION)[: targets + 1])
        table = Tokenizer(materials() / "tokenizers" / TOKENIZER).table
        self.per_byte = 1 / (math.log(2) * int(table.of_targets(span).sum()))
        tokens = torch.from_numpy(span.astype(np.int64))
        shape = (-1, BATCH, config.seq_len)
        self.ids, self.next = tokens[:-1].view(shape), tokens[1:].view(shape)
        self.config = config
        self.answers = [shares for shares, _ in self._answers(reference)]

    @torch.inference_mode()
    def _answers(self, model: GPT) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        for ids, targets in zip(self.ids, self.next, strict=True):
            shares = torch.log_softmax(model(ids), -1).flatten(0, 1)
            yield shares, F.nll_loss(shares, targets.flatten(), reduction="none").double()

    def __call__(self, data: bytes) -> tuple[float, torch.Tensor]:
        """KL in bits per byte, and the nats of each target."""
        weights = {name: t.dequantize() for name, t in decode(data).tensors.items()}
        divergence, nats = 0.0, []
        model = GPT.from_tensors(self.config, weights).eval()
        for right, (shares, wrong) in zip(self.answers, self._answers(model), strict=True):
            divergence += float((right.exp() * (right - shares)).sum(dtype=torch.float64))
            nats.append(wrong)
        return divergence * self.per_byte, torch.cat(nats)


@dataclass(frozen=True)
class Packed:
    """A packed checkpoint: its plan, the quantizer that makes other files, and who judges them."""

    plan: Plan
    quantizer: Quantizer
    judge: Judge
    data: bytes

    def real(self, found: WhatIf) -> bytes:
        """The file at the scales that a what-if names."""
        scales = self.plan.scales | {t.name: t.scale for t in found.tensors}
        return at_scales(self.quantizer, scales).data


def packed(folder: Path, checkpoint: Path, limit: int, tokens: int, targets: int) -> Packed:
    """Pack with the fast preset, calibrated on text that the model writes; `folder` keeps the stages."""
    loaded, settings = (
        load_model(checkpoint, like="baseline", seq_len=512),
        Calibration(tokens=tokens),
    )
    request = PackRequest(
        limit,
        "fast",
        calibration=settings,
        cache=folder,
        bytes_of=TextBytes(materials() / "tokenizers" / TOKENIZER),
    )
    made = pack_model(loaded, request)
    if made.plan is None:
        raise SystemExit("everything fits without loss: nothing to foresee")
    piece = Workpiece.of(loaded)
    piece, found = in_unit_order(piece, calibrate(piece, settings, folder), limit)
    kept = KeptCodes(folder / "codes", hash_of(code_sha256(), content_key(loaded, settings)))
    contents = contents_of(piece, found.layout, "fp16")
    curvature = Curvature.of(contents.matrices, found.hessians, found.gradients)
    quantizer = Quantizer(contents, curvature, TARGETS["fast"].states, kept)
    module = found.subject.module
    assert isinstance(module, GPT)
    return Packed(made.plan, quantizer, Judge(loaded.config, module, targets), made.data)


def compare(made: Packed, plans: tuple[str, ...]) -> Iterator[dict[str, Any]]:
    """A row for each plan; the first is the pack itself."""
    kl, nats = made.judge(made.data)
    plan = made.plan
    yield {"plan": "as packed", "bytes": plan.size, "foreseen_bytes": plan.size, "kl": kl,
           "foreseen_kl": plan.in_bits(plan.measured)}  # fmt: skip
    for text in plans:
        found = foresee(plan, parse(text))
        data = made.real(found)
        real_kl, real_nats = made.judge(data)
        before, after = found.cost
        change = (real_nats - nats) * made.judge.per_byte
        yield {
            "plan": text,
            "bytes": len(data),
            "foreseen_bytes": found.size,
            "bytes_error": found.size / len(data) - 1,
            "kl": real_kl,
            "delta_kl": real_kl - kl,
            "foreseen_delta": after - before,
            "delta_error": (after - before) / (real_kl - kl) - 1,
            "delta_bpb": float(change.sum()),
            "delta_bpb_error": float(change.std()) * math.sqrt(len(change)),
        }


def table(rows: list[dict[str, Any]]) -> str:
    """Rows as markdown, misses marked."""
    lines = [
        "| plan | bytes | foreseen | error | ΔKL | foreseen | error | ΔBPB ± s.e. |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in rows[1:]:
        miss = abs(row["bytes_error"]) > BYTES, abs(row["delta_error"]) > COST
        lines.append(
            f"| `{row['plan']}` | {row['bytes']:,} | {row['foreseen_bytes']:,} "
            f"| {100 * row['bytes_error']:+.2f} %{' missed' * miss[0]} | {row['delta_kl']:+.6f} "
            f"| {row['foreseen_delta']:+.6f} | {100 * row['delta_error']:+.0f} %{' missed' * miss[1]} "
            f"| {row['delta_bpb']:+.5f} ± {row['delta_bpb_error']:.5f} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--checkpoint", default="reference_8.7M_fp32.safetensors")
    parser.add_argument("--limit", type=int, default=3_800_000)
    parser.add_argument("--calibration-tokens", type=int, default=32_768)
    parser.add_argument("--targets", type=int, default=32_768)
    parser.add_argument("--folder", type=Path, help="keeps calibration and codes between runs")
    parser.add_argument("--name", default="what-if")
    options = parser.parse_args()
    folder = options.folder or Path(tempfile.mkdtemp())
    checkpoint = materials() / "checkpoints" / options.checkpoint
    made = packed(
        folder, checkpoint, options.limit, options.calibration_tokens, options.targets
    )  # fmt: skip
    rows = []
    for row in compare(made, PLANS):
        print(row, flush=True)
        rows.append(row)
    text = (
        f"{options.checkpoint} packed into {made.plan.size:,} bytes (fast, calibrated on "
        f"{options.calibration_tokens:,} tokens that the model wrote); costs in bits per byte on "
        f"{options.targets:,} validation targets. As packed: KL {rows[0]['kl']:.6f}, by the plan "
        f"{rows[0]['foreseen_kl']:.6f}.\n\n{table(rows)}\n\n"
        f"Allowed: {100 * BYTES:g} % of the bytes, {100 * COST:g} % of the change of KL."
    )
    write_report(options.name, rows, text)


if __name__ == "__main__":
    main()
