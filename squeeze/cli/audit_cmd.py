"""`squeeze audit`: run a submission in a box and report every rule."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from squeeze.cli.options import (
    SEED,
    Finite,
    Whole,
    json_option,
    limit_option,
    mode_options,
    other_tokenizer_option,
)
from squeeze.cli.parsing.asked import need, with_asked
from squeeze.cli.parsing.command import Command
from squeeze.cli.parsing.values import shards_option
from squeeze.score.modes import IN_ORDER

FILE = click.Path(path_type=Path)


@click.command("audit", cls=Command)
@click.argument("submission", type=FILE)
@click.option("--tokenizer", type=FILE, help="Sentencepiece model  [that of the pack].")
@shards_option("--val", "data", required=True, help="Validation shards; repeatable.")
@shards_option("--data", "train_data", help="Training shards to search; repeatable.")
@click.option(
    "--tokens",
    type=Whole(min=64),
    default=4096,
    show_default=True,
    metavar="N",
    help="Run on the first N targets.",
)
@mode_options(IN_ORDER)
@click.option("--adapter", metavar="FILE.py:NAME", help="Script that builds the model, to wrap it.")
@click.option("--weights", metavar="FILE", help="Its weights in SUBMISSION, for --adapter.")
@click.option("--shim", is_flag=True, help="Replace kernels that the adapter lacks here.")
@click.option(
    "--seconds",
    type=Finite(min=1),
    default=60.0,
    show_default=True,
    metavar="S",
    help="Limit of an answer.",
)
@click.option(
    "--report-seconds",
    type=Finite(min=1),
    default=600.0,
    show_default=True,
    metavar="S",
    help="Limit of a report.",
)
@click.option(
    "--memory",
    type=Finite(min=0),
    default=8.0,
    show_default=True,
    metavar="GIB",
    help="Limit of memory; 0 sets none, as CUDA needs.",
)
@click.option(
    "--thorough",
    type=Finite(min=0, min_open=True),
    metavar="MINUTES",
    help="Search all targets for leaks.",
)
@click.option(
    "--seed",
    type=SEED,
    help="Seed of choices  [default: random].",
)
@click.option(
    "--markdown", type=FILE, metavar="FILE", help="Also write a section for a pull request."
)
@limit_option
@other_tokenizer_option
@json_option
def command(**options: Any) -> None:
    """Check SUBMISSION by running it: a folder that speaks docs/protocol.md, a .sqz artifact, a
    transformers folder, or a record whose model --adapter builds.

    It runs in fresh processes without network and outside files. Every rule of docs/rules.md passes,
    fails or is not checkable. Exits with 1 when a rule fails, with 4 when this machine lacks what is
    needed to run. --mode, --length, --stride and --ttt: as in `squeeze eval`, for models that squeeze
    serves.

    \b
    Example:
      squeeze audit submission/ --tokenizer sp1024.model --val fineweb_val_000000.bin
      squeeze audit model.sqz --mode ttt-lora --ttt chunk=64 --markdown audit.md \\
          --tokenizer sp1024.model --val fineweb_val_000000.bin
    """
    from squeeze.cli.runs.audit import AuditRequest, run

    options = with_asked(options, [options["submission"]])
    need(options, "tokenizer")
    run(AuditRequest(**options))
