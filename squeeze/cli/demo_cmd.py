"""`squeeze demo`: the whole job in a few minutes, from nothing but a Python installation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from squeeze.cli.options import SEED, Finite, Whole, json_option
from squeeze.cli.parsing.command import Command


@click.command("demo", cls=Command)
@click.option(
    "--seconds",
    type=Finite(min=1),
    default=120,
    show_default=True,
    help="Training time.",
)
@click.option(
    "--limit",
    type=Whole(min=1),
    default=250_000,
    show_default=True,
    metavar="BYTES",
    help="Byte limit of the packed model.",
)
@click.option(
    "-o",
    "--out",
    type=click.Path(path_type=Path),
    default="demo",
    show_default=True,
    help="Folder of all files.",
)
@click.option(
    "--seed", type=SEED, default=0, show_default=True, help="Seed of weights and batches."
)
@click.option("--open", "open_page", is_flag=True, help="Open the report in a browser.")
@json_option
def command(**options: Any) -> None:
    """Train a small model, pack it to a limit, account for its bytes and score it.

    Needs no download: the text is the documentation that ships with Python.

    \b
    Example:
      squeeze demo --seconds 120 --limit 250000
    """
    from squeeze.cli.runs.demo import DemoOptions, run_demo

    run_demo(DemoOptions(**options))
