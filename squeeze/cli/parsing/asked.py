"""Options that the command line leaves open, taken from what a model was packed for."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from squeeze.cli.terminal.printing import print_notes
from squeeze.ledger.asked import asked_of


def with_asked(options: dict[str, Any], paths: Iterable[str | os.PathLike[str]]) -> dict[str, Any]:
    """Return options, `limit` and `tokenizer` as the pack of the artifact among paths had them.

    Only where neither the command line nor the project says them; a note says what was taken.
    """
    context = click.get_current_context()
    asked = asked_of(paths)
    if asked is None:
        return options
    taken: dict[str, Any] = {}
    for name, value in {"limit": asked.limit, "tokenizer": asked.tokenizer}.items():
        given = context.get_parameter_source(name) not in (None, ParameterSource.DEFAULT)
        if name in options and not given and value is not None:
            taken[name] = value
    if "tokenizer" in taken:
        if not Path(taken["tokenizer"]).is_file():
            del taken["tokenizer"]
        else:
            taken["tokenizer"] = Path(taken["tokenizer"])
    if "limit" in taken and taken["limit"] == options["limit"]:
        del taken["limit"]
    if taken:
        words = (
            f"--{name} {v:,}" if name == "limit" else f"--{name} {v}" for name, v in taken.items()
        )
        print_notes([f"as the model was packed: {' '.join(words)}"])
    return options | taken


def need(options: dict[str, Any], *names: str) -> None:
    """Raise UsageError for an option that nobody gave."""
    for name in names:
        if not options[name]:
            raise click.UsageError(f"Missing option '--{'val' if name == 'data' else name}'.")
