"""Runs `squeeze audit`: prints the verdict of every rule, and exits with 1 when one fails."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from squeeze.cli.bars import Bars
from squeeze.cli.terminal.printing import print_json, print_notes
from squeeze.errors import SqueezeError
from squeeze.files import check_outputs, write_atomic
from squeeze.score.audit import Adapter, AuditOptions, Limits, audit, load_data
from squeeze.score.modes import Mode
from squeeze.views.console import PlainConsole

NOT_RUN = 4  # exit code: nothing can be said of what needs a run


@dataclass(frozen=True)
class AuditRequest:
    """Options of `squeeze audit`, each under its name."""

    submission: Path
    tokenizer: Path
    data: tuple[Path, ...]
    train_data: tuple[Path, ...]
    tokens: int
    mode: Mode
    adapter: str | None
    weights: str | None
    shim: bool
    seconds: float
    report_seconds: float
    memory: float
    thorough: float | None
    seed: int | None
    markdown: Path | None
    limit: int
    other_tokenizer: bool
    as_json: bool


def run(request: AuditRequest) -> None:
    """Audit a submission, print the verdicts, and exit with 1 when a rule fails."""
    check_outputs(
        [request.markdown],
        [request.submission, request.tokenizer, *request.data, *request.train_data],
    )
    memory = int(request.memory * 2**30) or None
    options = AuditOptions(
        train_data=request.train_data,
        limits=Limits(request.seconds, request.report_seconds, memory),
        byte_limit=request.limit,
        serve_options=_serve_options(request.mode),
        adapter=_adapter(request),
        other_tokenizer=request.other_tokenizer,
        **_checks(request),
    )
    data = load_data(request.data, request.tokenizer, request.tokens)
    with Bars(request.as_json) as bars:
        result = audit(request.submission, data, options, bars)
    if request.markdown is not None:
        write_atomic(request.markdown, result.markdown().encode())
    if request.as_json:
        print_json(result.as_json())
    else:
        console = PlainConsole(log_width=120)
        console.print(result.table())
        console.print(result.summary())
        print_notes(result.notes)
    if result.failures:
        sys.exit(1)
    if not result.was_run:
        sys.exit(NOT_RUN)


def _adapter(request: AuditRequest) -> Adapter | None:
    """Return the script that wraps the model. Raises SqueezeError for options of one without it."""
    if request.adapter is not None:
        return Adapter(request.adapter, request.weights, request.shim)
    if request.weights is not None or request.shim:
        raise SqueezeError("--weights and --shim go with --adapter FILE.py:NAME")
    return None


def _checks(request: AuditRequest) -> dict[str, Any]:
    """Return the fields of AuditOptions that the request states on what is checked."""
    fields: dict[str, Any] = {} if request.seed is None else {"seed": request.seed}
    if request.thorough is not None:
        fields |= {"checks": request.tokens, "check_seconds": 60 * request.thorough}
    return fields


def _serve_options(mode: Mode) -> tuple[str, ...]:
    """Return a mode as arguments of `python -m squeeze.score.serving.serve`."""
    named = {"--mode": mode.name, "--length": mode.length, "--stride": mode.stride}
    words = [word for name, value in named.items() if value for word in (name, str(value))]
    return (*words, *(f"--ttt={name}={value}" for name, value in mode.settings.items()))
