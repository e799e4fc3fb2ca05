"""Runs `squeeze submit`: writes a submission folder or checks one, and prints its figures."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path

import click
import torch

from squeeze.cli.bars import Bars
from squeeze.cli.terminal.printing import print_json, print_line, print_rows
from squeeze.score.box.sandbox import Limits
from squeeze.score.modes import Mode
from squeeze.submit.check import Checked, CheckOptions, Inputs, check_submission
from squeeze.submit.claims import About
from squeeze.submit.parts import SCORER, Parts
from squeeze.submit.write import WriteOptions, write_submission
from squeeze.train.fields import settings


@dataclass(frozen=True)
class SubmitRequest:
    """Options of `squeeze submit`, each under its name."""

    model: Path | None
    out: Path | None
    force: bool
    check: Path | None
    tokenizer: Path
    data: tuple[Path, ...]
    trainings: tuple[Path, ...]
    seed_runs: tuple[str, ...]
    logs: tuple[Path, ...]
    parents: tuple[Path, ...]
    name: str | None
    authors: tuple[str, ...]
    github_id: str | None
    blurb: str
    assistance: tuple[str, ...]
    date: str | None
    script: Path | None
    files: tuple[Path, ...]
    commands: tuple[str, ...]
    mode: str
    length: int | None
    stride: int | None
    ttt: tuple[str, ...]
    tokens: int
    seconds: float
    limit: int
    other_tokenizer: bool
    as_json: bool

    @property
    def limits(self) -> Limits:
        """Limits of a run."""
        # CUDA reserves more addresses than any limit
        memory = None if torch.cuda.is_available() else Limits.memory
        return Limits(report_seconds=self.seconds, memory=memory)


def run(request: SubmitRequest) -> None:
    """Write or check a submission, and print its figures."""
    inputs = Inputs(request.tokenizer, request.data, request.other_tokenizer)
    with Bars(request.as_json) as bars:
        if request.check is not None:
            options = CheckOptions(request.tokens, request.limit, request.limits)
            checked = check_submission(request.check, inputs, options, bars)
        else:
            checked = _write(request, inputs, bars)
    if request.as_json:
        print_json(checked.as_json())
    else:
        _print(checked, "checked" if request.model is None else "wrote")


def _write(request: SubmitRequest, inputs: Inputs, bars: Bars) -> Checked:
    """Write the submission of a model. Raises UsageError for options that are missing."""
    needed = {
        "--out": request.out,
        "--name": request.name,
        "--author": request.authors,
        "--github-id": request.github_id,
    }
    missing = [name for name, value in needed.items() if not value]
    if missing:
        raise click.UsageError(f"Missing {', '.join(missing)}.")
    assert request.out is not None
    options = WriteOptions(
        mode=Mode(request.mode, request.length, request.stride, settings(request.ttt, "--ttt")),
        limit=request.limit,
        tokens=request.tokens,
        limits=request.limits,
        force=request.force,
    )
    return write_submission(request.out, _parts(request), inputs, options, bars)


def _parts(request: SubmitRequest) -> Parts:
    """Return the parts of the submission."""
    assert request.model is not None and request.name is not None
    assert request.github_id is not None
    commands = [shlex.split(text) for text in request.commands] or [list(SCORER)]
    # a command that serves speaks docs/protocol.md, another prints its score
    ways: dict[str, list[str] | None] = {
        "scorer" if "--serve" in words else "evaluate": words for words in commands
    }
    ways.setdefault("scorer", None)
    about = About(
        request.name,
        request.authors,
        request.github_id,
        blurb=request.blurb,
        assistance=request.assistance,
        **({"date": request.date} if request.date else {}),
    )
    return Parts(
        request.model,
        about,
        script=request.script,
        files=request.files,
        logs=request.logs,
        seed_runs=request.seed_runs,
        trainings=request.trainings,
        parents=request.parents,
        **ways,
    )


def _print(checked: Checked, verb: str) -> None:
    """Print the figures of a submission as rows, then its folder and files."""
    claims, limit = checked.claims, checked.claims["limit"]
    rows = {"bits per byte": f"{claims['val_bpb']:.6f}, {claims['score']['tokens']:,} targets"}
    for name, total in checked.totals.named().items():
        size = f"{total.bytes:,}, {total.verdict(limit)}" if total.bytes else "unknown"
        rows[f"bytes, {name}"] = size
    rows["squeeze eval"] = (
        f"{checked.bpb:.9f} on {checked.targets:,} of {checked.available:,} targets"
    )
    if "val_bpb_mean" in claims:
        mean, sd, n = claims["val_bpb_mean"], claims["val_bpb_std"], len(claims["seeds"])
        rows["seeds"] = f"{mean:.6f} ± {sd:.6f}, {n} of them"
    for run in checked.runs:
        outcome = f"{run.bpb:.9f} in a fresh process, {run.seconds:.1f} s, {run.isolation}"
        rows[" ".join(run.command)] = outcome
    print_rows(rows, 2 + max(map(len, rows)))
    names = ", ".join([*claims["files"], "README.md", "submission.json", "SHA256SUMS"])
    print_line(f"{verb} {checked.folder}: {names}")
