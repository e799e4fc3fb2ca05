"""`squeeze inspect`: format, configuration and tensors of a checkpoint or artifact."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

import click

from squeeze.cli.options import (
    architecture_options,
    json_option,
    script_options,
    verbose_option,
)
from squeeze.cli.parsing.command import Command


@click.command("inspect", cls=Command)
@click.argument("models", type=click.Path(), nargs=-1, required=True, metavar="MODEL [OTHER]")
@script_options
@architecture_options
@verbose_option
@json_option
def command(
    models: tuple[str, ...],
    script: str | None,
    shim: bool,
    architecture: dict[str, Any],
    verbose: bool,
    as_json: bool,
) -> None:
    """Show the format, configuration and tensors of MODEL (checkpoint or artifact).

    With OTHER: only the settings of model and training recipe in which the two differ.

    \b
    Example:
      squeeze inspect final_model.int8.ptz
      squeeze inspect first.safetensors second.safetensors
    """
    if len(models) > 2:
        raise click.UsageError("Give one model, or two to compare.")
    if len(models) == 1 and script is None and find_spec("numpy") is None:
        from squeeze.cli.runs.outline import run_outline

        run_outline(models[0], as_json, verbose)
        return
    from squeeze.cli.runs.inspect import run_comparison, run_inspection, run_script_inspection

    if len(models) == 2:
        run_comparison(models, architecture, as_json)
    elif script is None:
        run_inspection(models[0], architecture, as_json, verbose)
    else:
        from squeeze.subject.source import ModelSource

        source = ModelSource(models[0], script, shim, architecture)
        run_script_inspection(source, as_json, verbose)
