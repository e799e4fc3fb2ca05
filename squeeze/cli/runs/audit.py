"""Runs `squeeze audit`: boxes a submission, prints every verdict, and exits with 1 on a failure."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

from squeeze.cli.terminal.printing import print_json, print_line
from squeeze.files import check_outputs, write_atomic
from squeeze.score.audit import Limits, audit, load_data
from squeeze.score.modes import Mode
from squeeze.train.fields import settings
from squeeze.views.console import PlainConsole


@dataclass(frozen=True)
class AuditRequest:
    """Options of `squeeze audit`, each under its name; seconds, memory in GiB, limit in bytes."""

    submission: Path
    tokenizer: Path
    data: tuple[Path, ...]
    train_data: tuple[Path, ...]
    tokens: int
    mode: str
    length: int | None
    stride: int | None
    ttt: tuple[str, ...]
    seconds: float
    report_seconds: float
    memory: float
    seed: int
    markdown: Path | None
    limit: int
    as_json: bool

    @property
    def limits(self) -> Limits:
        """Limits of the box."""
        return Limits(self.seconds, self.report_seconds, int(self.memory * 2**30) or None)

    @property
    def serve_options(self) -> list[str]:
        """Options by which squeeze serves a bare artifact. Raises BadConfig for a wrong combination."""
        Mode(self.mode, self.length, self.stride, settings(self.ttt, "--ttt"))
        named = {"--mode": self.mode, "--length": self.length, "--stride": self.stride}
        given = [part for name, value in named.items() if value for part in (name, str(value))]
        return given + [f"--ttt={option}" for option in self.ttt]


def run(request: AuditRequest) -> None:
    """Audit a submission and print the report."""
    check_outputs(
        [request.markdown],
        [request.submission, request.tokenizer, *request.data, *request.train_data],
    )
    result = audit(
        request.submission,
        load_data(list(request.data), request.tokenizer, request.tokens),
        train_data=request.train_data,
        validation_data=request.data,
        limits=request.limits,
        byte_limit=request.limit,
        serve_options=request.serve_options,
        seed=request.seed,
        on_stage=None if request.as_json else _show_stage,
    )
    if request.markdown is not None:
        write_atomic(request.markdown, result.markdown().encode())
    if request.as_json:
        print_json(result.as_json())
    else:
        console = PlainConsole(log_width=120)
        console.print(result.table())
        console.print(result.summary())
    if result.failures:
        sys.exit(1)


def _show_stage(stage: str) -> None:
    if sys.stderr.isatty():
        print_line(f"{stage} …", err=True)
