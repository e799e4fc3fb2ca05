"""Runs `squeeze eval`: scores a model, under torchrun on every rank, and prints the report."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from squeeze.cli.bars import Bars
from squeeze.cli.runs.kernels import use_kernels
from squeeze.cli.terminal.printing import print_json, print_notes, print_rows
from squeeze.ranks.launched import connected_run
from squeeze.score.evaluate import EvalOptions, evaluate
from squeeze.score.modes import Mode
from squeeze.score.report import EvalReport


@dataclass(frozen=True)
class EvalRequest:
    """Options of `squeeze eval`, each under its name."""

    model: Path
    tokenizer: Path
    data: tuple[Path, ...]
    mode: Mode
    tokens: int | None
    documents: int | None
    seed: int
    batch: int | None
    device: str | None
    precision: str
    script: str | None
    shim: bool
    architecture: dict[str, Any]
    other_tokenizer: bool
    as_json: bool


def run(request: EvalRequest) -> None:
    """Score a model and print the report on the first rank."""
    with connected_run(request.device) as ranks:
        use_kernels(ranks.device)
        options = EvalOptions(
            mode=request.mode,
            tokens=request.tokens,
            documents=request.documents,
            seed=request.seed,
            batch=request.batch,
            device=str(ranks.device),
            precision=request.precision,
            architecture=request.architecture,
            script=request.script,
            shim=request.shim,
            other_tokenizer=request.other_tokenizer,
        )
        quiet = request.as_json or not ranks.first
        with Bars(quiet) as bars:
            report = evaluate(request.model, request.tokenizer, request.data, options, bars)
    if ranks.first:
        print_json(report.as_json()) if request.as_json else _print(report)


def _print(report: EvalReport) -> None:
    """Print the figures of a score as rows, and the assumptions about the model as notes."""
    part = "partial" if report.partial else "all of the data"
    kind = f"the official {report.official} set" if report.official else part
    assert report.options is not None and report.seconds is not None
    rows = {
        "bits per byte": f"{report.bpb:.6f}",
        "nats per token": f"{report.nats_per_token:.6f}",
        "targets": f"{report.tokens:,} of {report.available_tokens:,}, {kind}",
        "bytes of text": f"{report.bytes:,}",
        "model": f"{report.model} ({report.format}, {report.model_bytes:,} bytes)",
        "mode": f"{report.mode} ({_brief(report.options)})",
        "time": f"{report.seconds['score']:.1f} s scoring in {report.precision} on {report.device}",
    }
    if counts := report.by_document:
        rows["documents"] = (
            f"{counts.documents:,}; with their ends {counts.bpb_with_ends:.6f} bits per byte"
        )
    if order := report.order:
        rows["order"] = f"{order['updates']:,} updates, on {order['used']:,} tokens scored before"
    print_rows(rows)
    print_notes(report.notes)


def _brief(options: dict[str, Any]) -> str:
    """Return options on one line: `length 512, stride 64`."""
    flat = {
        key if inner is None else f"{key}.{inner}": value
        for key, group in options.items()
        for inner, value in (group.items() if isinstance(group, dict) else [(None, group)])
    }
    return ", ".join(
        f"{name} {'+'.join(value) if isinstance(value, tuple) else value}"
        for name, value in flat.items()
    )
