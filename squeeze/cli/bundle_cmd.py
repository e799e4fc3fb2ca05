"""`squeeze bundle`: an entry script and the modules it uses → one small file that runs. Parses only."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

import click

from squeeze.cli.options import json_option
from squeeze.cli.parsing.command import Command
from squeeze.cli.parsing.values import TrainingPreset, Word

FORMS = ("auto", "literal", "archive", "text", "plain")


def _constants(ctx: click.Context, param: click.Parameter, values: tuple[str, ...]) -> Any:
    constants: dict[str, object] = {}
    for text in values:
        name, equals, value = text.partition("=")
        if not all(part.isidentifier() for part in name.split(".", 1)) or not equals:
            raise click.BadParameter(f"{text}: expected NAME=VALUE such as DEBUG=False")
        try:
            constants[name] = ast.literal_eval(value)
        except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError):
            raise click.BadParameter(f"{value} is not a Python literal") from None
    return constants


@click.command("bundle", cls=Command)
@click.argument("entry", type=click.Path(path_type=Path), required=False)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED, metavar="[-- ARGS…]")
@click.option(
    "--preset",
    type=TrainingPreset(),
    metavar="NAME",
    help="No ENTRY: our own script, which trains and packs this preset.",
)
@click.option("--set", "settings", multiple=True, metavar="NAME=VALUE", help="Change the preset.")
@click.option("-o", "--out", type=click.Path(path_type=Path), help="File [ENTRY.bundle.py].")
@click.option("--package", "packages", multiple=True, help="Installed package to take in.")
@click.option("--keep", multiple=True, metavar="NAME", help="Keep and do not rename; repeatable.")
@click.option(
    "--define",
    "constants",
    multiple=True,
    callback=_constants,
    metavar="FLAG=VALUE",
    help="Value of a flag or of CLASS.FIELD; branches it rules out go.",
)
@click.option(
    "--coder",
    "coders",
    metavar="NAME,…",
    help="Of zlib, lzma, brotli, zstd, mixed (numba) [zlib,lzma].",
)
@click.option("--form", type=Word(FORMS), default="auto", help="Of the file [smallest].")
@click.option(
    "--readable", type=click.Path(path_type=Path), help="Also write the flat source here."
)
@click.option("--no-minify", is_flag=True, help="Compress the flat source as it is.")
@click.option("--rename-classes", is_flag=True, help="Also rename classes whose names may show.")
@click.option("--terse-errors", is_flag=True, help="Drop the texts of exceptions.")
@click.option(
    "--no-checks", is_flag=True, help="Drop what only raises: for inputs known to be good."
)
@click.option(
    "--specialise",
    "specialised",
    is_flag=True,
    help="Drop statements without effects and names nobody reads.",
)
@click.option("--verify", is_flag=True, help="Run both with ARGS, refuse a difference.")
@click.option(
    "--tolerance",
    type=click.FloatRange(0, 1, max_open=True),
    default=0.0,
    help="Relative difference that may be.",
)
@json_option
def command(**options: Any) -> None:
    """Make ENTRY and the local modules it uses one file, as small as it goes, that runs.

    Modules beside ENTRY are taken in, and --package names others. What the program cannot reach is
    dropped, the rest is minified, compressed, and put into a file that restores itself.

    \b
    Example:
      squeeze bundle train.py --verify -o train_gpt.py -- --steps 3
      squeeze bundle train.py --package mylib -o train_gpt.py --readable train_gpt.flat.py
      squeeze bundle --preset record-1493 -o train_gpt.py
    """
    entry, preset = options["entry"], options["preset"]
    if (entry is None) == (preset is None) or (options["settings"] and preset is None):
        raise click.UsageError("give ENTRY, or --preset with any --set")
    if preset is not None and options["packages"]:
        raise click.UsageError(
            "--package goes with ENTRY: a preset's script takes in squeeze alone"
        )
    if options["verify"] and entry is None:
        raise click.UsageError("--verify goes with ENTRY: `squeeze submit` runs a preset's script")
    if (options["arguments"] or options["tolerance"]) and not options["verify"]:
        raise click.UsageError("ARGS and --tolerance go with --verify")
    from squeeze.cli.runs.bundle import BundleRequest, run

    run(BundleRequest(**options))
