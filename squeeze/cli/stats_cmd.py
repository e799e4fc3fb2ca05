"""`squeeze stats`: mean, spread and significance over the seeds of a run, or of two runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from squeeze.cli.options import json_option
from squeeze.cli.parsing.command import Command
from squeeze.cli.parsing.values import Word
from squeeze.score.report import METRICS

FILE = click.Path(path_type=Path)


@click.command("stats", cls=Command)
@click.argument("run", type=FILE, nargs=-1, required=True)
@click.option("--against", type=FILE, multiple=True, help="Report of the run to beat; repeatable.")
@click.option(
    "--metric",
    type=Word(METRICS),
    default=METRICS[0],
    show_default=True,
    help="Metric to compare; take bpb where the tokenizers differ.",
)
@click.option("--score", metavar="NAME", help="Score of logs  [the last that all of them print].")
@click.option("--plot", type=FILE, help="Picture of the seeds to write (.svg, .png).")
@json_option
def command(**options: Any) -> None:
    """Show mean and spread over the seeds of a RUN: reports of `squeeze eval --json`, one a seed.

    Training logs, one a seed, or the folder of a submission do as well.

    With --against it also runs Welch's one-sided test of the difference, and the challenge's rule:
    at least 0.005 nats better at p < 0.01. Different configurations are refused.

    \b
    Example:
      squeeze stats new-1.json new-2.json new-3.json \\
          --against old-1.json --against old-2.json --against old-3.json --plot seeds.svg
      squeeze stats records/nine/ --against records/eight/ --metric bpb
    """
    from squeeze.cli.runs.stats import StatsRequest, run

    run(StatsRequest(**options))
