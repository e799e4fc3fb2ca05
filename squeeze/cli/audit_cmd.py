"""`squeeze audit`: run a submission in a box and report every rule. Parses only."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from squeeze.cli.options import json_option, limit_option
from squeeze.score.modes import MODES

FILE = click.Path(path_type=Path)
SERVED = [mode for mode in MODES if mode != "ttt-phased"]  # which does not score in order


@click.command("audit")
@click.argument("submission", type=FILE)
@click.option("--tokenizer", type=FILE, required=True, help="Sentencepiece model of the data.")
@click.option(
    "--data", type=FILE, multiple=True, required=True, help="Validation shard; repeatable."
)
@click.option("--train-data", type=FILE, multiple=True, help="Training shard; repeatable.")
@click.option(
    "--tokens",
    type=click.IntRange(min=64),
    default=4096,
    show_default=True,
    metavar="N",
    help="Run on the first N targets.",
)
@click.option("--mode", type=click.Choice(SERVED), default="window", show_default=True)
@click.option("--length", type=click.IntRange(min=1), help="Window of a bare artifact.")
@click.option("--stride", type=click.IntRange(min=1), help="Its windows move by this.")
@click.option("--ttt", multiple=True, metavar="NAME=VALUE", help="An option of a ttt mode.")
@click.option(
    "--seconds",
    type=click.FloatRange(min=1),
    default=60.0,
    show_default=True,
    help="For one answer.",
)
@click.option(
    "--report-seconds",
    type=click.FloatRange(min=1),
    default=600.0,
    show_default=True,
    help="For one report.",
)
@click.option(
    "--memory",
    type=click.FloatRange(min=0),
    default=8.0,
    show_default=True,
    metavar="GIB",
    help="Address space; 0: no limit, as CUDA needs.",
)
@click.option("--seed", default=0, show_default=True, help="Chooses where futures are flipped.")
@click.option(
    "--markdown", type=FILE, metavar="FILE", help="Also write a section for a pull request."
)
@limit_option
@json_option
def command(**options: Any) -> None:
    """Check SUBMISSION by running it: a folder that speaks docs/protocol.md, or a .sqz artifact.

    It runs in fresh processes without network and outside files. Every rule of docs/rules.md passes,
    fails or is not checkable, with the evidence. Exits with 1 when a rule fails. --mode and what
    follows it say how to score a bare artifact, as in `squeeze eval`.

    \b
    Example:
      squeeze audit submission/ --tokenizer sp1024.model --data fineweb_val_000000.bin
      squeeze audit model.sqz --mode ttt-lora --ttt chunk=64 --markdown audit.md \\
          --tokenizer sp1024.model --data fineweb_val_000000.bin
    """
    from squeeze.cli.runs.audit import AuditRequest, run

    run(AuditRequest(**options))
