"""Runs `squeeze review`: prints the table of findings, and exits with 1 when something is flagged."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

from rich.table import Table
from rich.text import Text

from squeeze.cli.terminal.printing import print_json
from squeeze.files import check_outputs, check_outside, write_atomic
from squeeze.review.findings import AGREES, FLAGGED, UNTOLD
from squeeze.review.review import HEADING, Review, review
from squeeze.views.console import PlainConsole

COLOURS = {AGREES: "green", FLAGGED: "red", UNTOLD: "yellow"}
LOG_WIDTH = 120


@dataclass(frozen=True)
class ReviewRequest:
    """Options of `squeeze review`, each under its name."""

    folder: Path
    parent: Path | None
    markdown: Path | None
    limit: int
    as_json: bool


def run_review(request: ReviewRequest) -> None:
    """Review a folder, print the findings, and exit with 1 when one is flagged."""
    check_outputs([request.markdown], [request.folder, request.parent])
    check_outside(request.markdown, [request.folder], own=HEADING.encode())
    result = review(request.folder, request.limit, request.parent)
    if request.markdown is not None:
        write_atomic(request.markdown, result.markdown().encode())
    if request.as_json:
        print_json(result.as_json())
    else:
        print_review(result)
    if result.flagged:
        sys.exit(1)


def print_review(result: Review) -> None:
    """Print the findings as a table, and how many are flagged."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("finding", max_width=34)
    table.add_column("", no_wrap=True)
    table.add_column("evidence", overflow="fold")
    for finding in result.findings:
        status = Text(finding.status, style=COLOURS[finding.status])
        table.add_row(finding.title, status, Text(finding.text))
    console = PlainConsole(log_width=LOG_WIDTH)
    console.print(table)
    console.print(result.summary())
