"""The only ways in which commands print: a call is a line, whatever names and notes hold."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping
from typing import Any

from squeeze.errors import printable


def print_line(text: str = "", err: bool = False) -> None:
    """Print one line on standard output (err: standard error); what would break it is escaped."""
    print(printable(text), file=sys.stderr if err else sys.stdout, flush=True)


def print_notes(notes: Iterable[str], prefix: str = "note: ") -> None:
    """Print each note as a line on standard error."""
    for note in notes:
        print_line(prefix + note, err=True)


def print_rows(rows: Mapping[str, str], width: int = 16) -> None:
    """Print names and values, the values from column `width` on."""
    for name, value in rows.items():
        print_line(f"{name:<{width}}{value}")


def print_json(value: Any) -> None:
    """Print one JSON object on standard output."""
    print(json.dumps(value, indent=2), flush=True)
