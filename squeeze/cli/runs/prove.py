"""Runs `squeeze prove`: codes text with a model and decodes it elsewhere, or only decodes a file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from squeeze.cli.bars import Bars
from squeeze.cli.terminal.printing import print_json, print_notes, print_rows
from squeeze.files import check_outputs, read_file
from squeeze.ranks.connect import resolve_device
from squeeze.score.identity import named_tokenizers, tokenizer_notes
from squeeze.score.modes import Mode
from squeeze.score.official import tokenizer_name
from squeeze.score.proof.coding import Submission
from squeeze.score.proof.decode import DecodeReport, decode_text
from squeeze.score.proof.documents import Selection, check_documents, select_documents
from squeeze.score.proof.file import Proof
from squeeze.score.proof.predictor import BATCHES, mode_fields, read_mode
from squeeze.score.proof.prove import (
    ProofOptions,
    ProofReport,
    prove,
    reading_notes,
)
from squeeze.score.proof.said import Said
from squeeze.score.tokenizer import Text
from squeeze.subject.source import ModelSource
from squeeze.train.data.shards import Tokens, read_shards


@dataclass(frozen=True)
class ProveRequest:
    """Options of `squeeze prove`, each under its name."""

    model: Path
    tokenizer: Path
    data: tuple[Path, ...]
    documents: int | None
    text_bytes: int | None
    seed: int | None
    mode: Mode
    batch: int | None
    threads: int | None
    device: str | None
    encoded: Path | None
    output: Path | None
    script: str | None
    shim: bool
    architecture: dict[str, Any]
    other_tokenizer: bool
    as_json: bool


def run(request: ProveRequest) -> None:
    """Prove a model, or decode a file, and print the report."""
    check_outputs(
        [request.output], [request.model, request.tokenizer, *request.data, request.encoded]
    )
    if request.encoded is not None:
        _decode(request, request.encoded)
    else:
        _prove(request)


def _decode(request: ProveRequest, encoded: Path) -> None:
    """Decode a file and print the figures of its text."""
    data = read_file(encoded)
    proof = Proof.from_bytes(data)
    device = resolve_device(request.device)
    submission = _load(request, device)
    notes = [*_identity(request, submission), *reading_notes(submission)]

    def check(documents: Sequence[Tokens]) -> None:
        if request.data:
            text = Text(read_shards(list(request.data)), submission.tokenizer.table)
            check_documents(documents, text, submission.bos)

    with Bars(request.as_json) as bars:
        report = decode_text(submission, proof, request.output, bars, check)
    bpb = 8 * len(data) / max(1, report.text_bytes)
    if request.as_json:
        facts = {"file_bytes": len(data), "file_bpb": bpb, "found_in_data": bool(request.data)}
        print_json(report.as_json() | facts | {"notes": notes})
        return
    rows = {"file": f"{len(data):,} bytes", "file bits/byte": f"{bpb:.6f}"}
    if request.data:
        rows = {"decoded": "documents of the data, none twice", **rows}
    _print(report, rows | _reads(submission))
    print_notes(notes)


def _load(request: ProveRequest, device: torch.device) -> Submission:
    """Return the model, as it was named, and its tokenizer."""
    source = ModelSource(request.model, request.script, request.shim, request.architecture)
    return Submission.load(source, request.tokenizer, device)


def _identity(request: ProveRequest, submission: Submission) -> list[str]:
    """Return sentences on the tokenizer's identity. Raises BadData for another one."""
    named = named_tokenizers(submission.model.tokenizer, request.data)
    return tokenizer_notes(submission.tokenizer.sha256, named, request.other_tokenizer)


def _prove(request: ProveRequest) -> None:
    """Code documents, decode them in another process, and print both."""
    device = resolve_device(request.device)
    submission = _load(request, device)
    identity = _identity(request, submission)
    text = Text(read_shards(list(request.data)), submission.tokenizer.table)
    selection = Selection(request.documents, request.text_bytes, request.seed)
    documents, skipped = select_documents(text, submission.bos, selection)
    mode = read_mode(mode_fields(request.mode))
    threads = torch.get_num_threads() if request.threads is None else request.threads
    options = ProofOptions(mode, request.batch or BATCHES[mode.name], threads)
    with Bars(request.as_json) as bars:
        report = prove(submission, documents, options, request.output, bars)
    notes = [*submission.model.notes, *identity, *reading_notes(submission)]
    if not request.as_json:
        _print(report, _proof_rows(report) | _reads(submission))
        print_notes(notes)
        return
    print_json(
        report.as_json()
        | {
            "data": [str(path) for path in request.data],
            "selection": {
                "documents": selection.documents,
                "bytes": selection.text_bytes,
                "seed": selection.seed,
            },
            "tokens_before_first_bos": skipped,
            "notes": notes,
        }
    )


def _reads(submission: Submission) -> dict[str, str]:
    """Return the sizes of the files that the decoder reads besides the coded file."""
    tokenizer = submission.tokenizer
    name = tokenizer_name(tokenizer.sha256) or "another than the challenge's"
    said = Said.of(submission.source)
    files = [
        f"model {submission.model.size:,} bytes",
        f"tokenizer {tokenizer.size:,} bytes ({name})",
        *([f"script {said.script_bytes:,} bytes"] if said.script_bytes else []),
        *([f"statements {said.statement_bytes:,} bytes"] if said.statement_bytes else []),
    ]
    return {"decoder reads": ", ".join(files)}


def _print(report: DecodeReport | ProofReport, rows: dict[str, str]) -> None:
    """Print the decoded text in figures, with rows of the proof in between."""
    text = f"{report.text_bytes:,} bytes, {report.documents:,} documents, {report.tokens:,} tokens"
    written = f"{report.sha256['text']}, {report.written_bytes:,} bytes with newlines in between"
    print_rows({"text": text, **rows, "SHA-256 of text": written}, 17)


def _proof_rows(report: ProofReport) -> dict[str, str]:
    """Return the figures of a proof besides those of its text."""
    seconds, speed = report.seconds, report.tokens_per_second
    return {
        "decoded": "identical, in another process",
        "file": f"{report.file_bytes:,} bytes, header {report.header_bytes}, "
        f"{report.overhead:+.4%} of the code length",
        "file bits/byte": f"{report.file_bpb:.6f}",
        "bits per byte": f"{report.bpb_with_ends:.6f} computed with ends of documents, "
        f"{report.bpb:.6f} without; {report.window_bpb:.6f} in plain windows",
        "encoded in": f"{seconds['encode']:.1f} s, {speed['encode']:,.0f} tokens/s",
        "decoded in": f"{seconds['decode']:.1f} s, {speed['decode']:,.0f} tokens/s",
        "machine": f"torch {report.machine}, {report.threads} threads, "
        f"{report.batch} documents at a time",
    }
