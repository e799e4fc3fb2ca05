"""`squeeze inspect`: format, configuration and tensors of a checkpoint or artifact."""

from __future__ import annotations

from typing import Any

import click

from squeeze.cli.options import architecture_options, json_option, script_options


@click.command("inspect")
@click.argument("models", type=click.Path(), nargs=-1, required=True, metavar="MODEL [OTHER]")
@script_options
@architecture_options
@json_option
def command(
    models: tuple[str, ...],
    script: str | None,
    shim: bool,
    architecture: dict[str, Any],
    as_json: bool,
) -> None:
    """Show the format, configuration and tensors of MODEL (checkpoint or artifact).

    With OTHER: only the settings of model and training recipe in which the two differ.

    \b
    Example:
      squeeze inspect final_model.int8.ptz
      squeeze inspect first.safetensors second.safetensors
    """
    from squeeze.cli.runs.inspect import run_comparison, run_inspection
    from squeeze.subject.source import ModelSource

    if len(models) > 2:
        raise click.UsageError("Give one model, or two to compare.")
    if len(models) == 2:
        run_comparison(models, architecture, as_json)
    else:
        run_inspection(ModelSource(models[0], script, shim, architecture), as_json)
