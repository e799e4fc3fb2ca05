"""`squeeze config`: the settings of the project, and where each of them is from."""

from __future__ import annotations

import click

from squeeze.cli.options import json_option
from squeeze.cli.parsing.command import Command


@click.command("config", cls=Command)
@json_option
def command(as_json: bool) -> None:
    """Show which settings count here, and where they are from.

    The nearest squeeze.toml, in this folder or above, holds tokenizer, data, val, limit and model
    for all commands, and in a table named after a command any of its options. Paths are relative to
    the file. Variables such as SQUEEZE_LIMIT or SQUEEZE_PACK_PRESET come before it, options on the
    command line before both.

    \b
    Example:
      echo 'limit = 200000' > squeeze.toml
      squeeze config
    """
    from squeeze.cli.runs.config import run

    run(as_json)
