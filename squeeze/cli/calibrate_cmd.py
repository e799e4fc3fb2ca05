"""`squeeze calibrate`: calibration text, Hessians and gradients, where `squeeze pack` finds them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from squeeze.cli.options import (
    SEED,
    TEXT_SOURCES,
    Whole,
    architecture_options,
    json_option,
    precision_option,
    script_options,
)
from squeeze.cli.parsing.command import Command
from squeeze.cli.parsing.values import Word, shards_option


@click.command("calibrate", cls=Command)
@click.argument("model", type=click.Path())
@click.option(
    "-o", "--out", type=click.Path(path_type=Path), required=True, help="Folder of the results."
)
@click.option(
    "--calibration",
    "source",
    type=Word(TEXT_SOURCES),
    default="self",
    show_default=True,
    help="Calibration text: self (written by the model), shards or random.",
)
@shards_option("--data", help="Shards, for --calibration shards.")
@click.option(
    "--tokens",
    type=Whole(min=1),
    metavar="N",
    help="Calibration tokens [131072; 32768 above 16M weights].",
)
@click.option(
    "--length", type=Whole(0, 1 << 20), default=0, help="Tokens per sequence [--seq-len]."
)
@click.option(
    "--temperature",
    type=float,
    default=1.2,
    show_default=True,
    metavar="X",
    help="Temperature at which the model writes.",
)
@click.option("--seed", type=SEED, default=0, show_default=True, help="Seed of the text.")
@precision_option()
@click.option("--fresh", is_flag=True, help="Ignore what the folder holds.")
@script_options
@architecture_options
@json_option
def command(**options: Any) -> None:
    """Let MODEL write calibration text, and collect Hessians and output gradients on it.

    Results that the folder holds for the same weights and settings are used again, and an interrupted
    run resumes; `squeeze pack -o model.sqz` with the same settings reads them from model.sqz.cache.
    Under torchrun the ranks share the work and the first one writes.

    \b
    Example:
      squeeze calibrate model.safetensors -o model.sqz.cache --tokens 131072
    """
    from squeeze.cli.runs.calibrate import CalibrateOptions, run_calibration

    run_calibration(CalibrateOptions(**options))
