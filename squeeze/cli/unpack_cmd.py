"""`squeeze unpack`: `.sqz` → safetensors with the configuration in its metadata. Parses only."""

from __future__ import annotations

import click

from squeeze.cli.options import json_option
from squeeze.cli.parsing.command import Command


@click.command("unpack", cls=Command)
@click.argument("artifact", type=click.Path())
@click.option(
    "-o",
    "--out",
    type=click.Path(),
    help="File to write [ARTIFACT with .safetensors, if that is new]; or a folder, for a model of"
    " transformers.",
)
@json_option
def command(artifact: str, out: str | None, as_json: bool) -> None:
    """Decode ARTIFACT into a safetensors checkpoint of the weights the evaluator uses.

    \b
    Example:
      squeeze unpack model.sqz -o model.safetensors
      squeeze unpack gpt2.sqz -o gpt2/
    """
    from squeeze.cli.runs.unpack import run

    run(artifact, out, as_json)
