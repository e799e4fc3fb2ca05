"""Runs `squeeze prove`: codes text and decodes it again, or only decodes a file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from squeeze.cli.options import progress, stage_bars
from squeeze.cli.terminal.printing import print_json, print_notes, print_rows
from squeeze.files import check_outputs
from squeeze.score.evaluate import resolve_device
from squeeze.score.modes import Mode
from squeeze.score.proof.coding import Submission
from squeeze.score.proof.decode import decode_file
from squeeze.score.proof.predictor import BATCHES, mode_fields, read_mode
from squeeze.score.proof.prove import prove, select_documents
from squeeze.train.data.shards import read_shards
from squeeze.train.fields import settings as read_settings


@dataclass(frozen=True)
class ProveRequest:
    """Options of `squeeze prove`, each under its name; size in bytes of text."""

    model: Path
    tokenizer: Path
    data: tuple[Path, ...]
    documents: int | None
    size: int | None
    seed: int | None
    mode_name: str
    length: int | None
    stride: int | None
    adaptation: tuple[str, ...]
    batch: int | None
    threads: int | None
    device: str | None
    encoded: Path | None
    output: Path | None
    as_json: bool

    @property
    def mode(self) -> Mode:
        """Mode of the prediction, with the defaults of proofs."""
        settings = read_settings(self.adaptation, "--ttt")
        return read_mode(mode_fields(Mode(self.mode_name, self.length, self.stride, settings)))


def run(request: ProveRequest) -> None:
    """Prove or decode, and print the report."""
    check_outputs(
        [request.output], [request.model, request.tokenizer, *request.data, request.encoded]
    )
    report = _prove(request) if request.encoded is None else _decode(request, request.encoded)
    if request.as_json:
        print_json(report)
    else:
        _print(report)


def _decode(request: ProveRequest, encoded: Path) -> dict[str, Any]:
    """Return the report of decoding one file."""
    device = str(resolve_device(request.device))
    with progress("decoding", request.as_json) as update:
        return decode_file(
            request.model, request.tokenizer, encoded, request.output, device, update
        )


def _prove(request: ProveRequest) -> dict[str, Any]:
    """Return the report of coding text and decoding it in another process."""
    submission = Submission.load(request.model, request.tokenizer, resolve_device(request.device))
    chosen, skipped = select_documents(
        read_shards(list(request.data)),
        submission.bos,
        submission.tokenizer.table,
        request.documents,
        request.size,
        request.seed,
    )
    mode = request.mode
    batch = request.batch or BATCHES[mode.name]
    threads = torch.get_num_threads() if request.threads is None else request.threads
    with stage_bars(request.as_json) as on_stage:
        report = prove(submission, chosen, mode, batch, threads, request.output, on_stage)
    return report | {
        "data": [str(path) for path in request.data],
        "selection": {
            "documents": request.documents,
            "bytes": request.size,
            "seed": request.seed,
        },
        "tokens_before_first_bos": skipped,
        "notes": submission.model.notes,
    }


def _print(report: dict[str, Any]) -> None:
    rows = {
        "text": f"{report['text_bytes']:,} bytes, {report['documents']:,} documents, "
        f"{report['tokens']:,} tokens",
    }
    if "file_bytes" in report:
        seconds, speed = report["seconds"], report["tokens_per_second"]
        rows |= {
            "decoded": "identical, in another process",
            "file": f"{report['file_bytes']:,} bytes, header {report['header_bytes']}, "
            f"{report['overhead']:+.4%} of the code length",
            "file bits/byte": f"{report['file_bpb']:.6f}",
            "bits per byte": f"{report['bpb_with_ends']:.6f} computed with ends of documents, "
            f"{report['bpb']:.6f} without; {report['window_bpb']:.6f} in plain windows",
            "encoded in": f"{seconds['encode']:.1f} s, {speed['encode']:,.0f} tokens/s",
            "decoded in": f"{seconds['decode']:.1f} s, {speed['decode']:,.0f} tokens/s",
            "machine": f"{report['machine']}, {report['threads']} threads, "
            f"{report['batch']} documents at a time",
        }
    rows["SHA-256 of text"] = report["sha256"]["text"]
    print_rows(rows, 17)
    print_notes(report.get("notes", ()))
