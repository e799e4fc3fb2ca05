"""`squeeze review`: a submission folder by its papers. Parses only."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from squeeze.cli.options import json_option, limit_option
from squeeze.cli.parsing.command import Command

FILE = click.Path(path_type=Path)


@click.command("review", cls=Command)
@click.argument("folder", type=FILE)
@click.option("--parent", type=FILE, help="Folder of the record it was made from.")
@click.option(
    "--markdown", type=FILE, metavar="FILE", help="Also write a section for a pull request."
)
@limit_option
@json_option
def command(**options: Any) -> None:
    """Review FOLDER, a submission as entrants hand it in, by its papers; nothing of it is run.

    Reads logs, submission.json, README and script, and compares: model in the log + code on disk with
    the limit, the bytes that are stated, val_bpb with the mean of the logs, the timers with 600 s, the
    configurations of the seeds, and the score of the parent. No weights are needed. Exits with 1 when
    something is flagged.

    \b
    Example:
      squeeze review records/track_10min_16mb/2026-04-01_Nine --parent records/track_10min_16mb/Eight
    """
    from squeeze.cli.runs.review import ReviewRequest, run_review

    run_review(ReviewRequest(**options))
