"""Options of test-time training as plain values: only what differs from the defaults, and checked."""

from __future__ import annotations

import dataclasses
from typing import Any, TypeVar

from squeeze.errors import BadConfig, UnsupportedFormat

Options = TypeVar("Options")
OPTIONAL_INTEGERS = ("length", "stride")
MAX_INTEGER = 1 << 24  # tokens, documents, steps: far beyond any use, far below trouble


def differences(options: Any, defaults: Any) -> dict[str, Any]:
    """Fields of a dataclass that differ from those of another of its kind, nested ones likewise."""
    found: dict[str, Any] = {}
    for field in dataclasses.fields(options):
        value, default = getattr(options, field.name), getattr(defaults, field.name)
        if dataclasses.is_dataclass(value):
            value = differences(value, default) or default
        if value != default:
            found[field.name] = list(value) if isinstance(value, tuple) else value
    return found


def replaced(defaults: Options, fields: dict[str, Any]) -> Options:
    """`defaults` with `fields`, inverse of `differences`.

    Raises UnsupportedFormat for a field there is not, BadConfig for a value of another type or one
    the options refuse.
    """
    known = {field.name for field in dataclasses.fields(defaults)}  # type: ignore[arg-type]
    unknown = sorted(set(fields) - known)
    if unknown:
        raise UnsupportedFormat(
            "unknown options of test-time training",
            expected=", ".join(sorted(known)),
            found=", ".join(unknown)[:200],
        )
    values = {name: _like(name, getattr(defaults, name), value) for name, value in fields.items()}
    return dataclasses.replace(defaults, **values)  # type: ignore[type-var]


def _like(name: str, default: Any, value: Any) -> Any:
    """`value` if it is of the type of `default`; nested options and tuples are built."""
    if default is None and value is None:
        return None
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if dataclasses.is_dataclass(default):
        if isinstance(value, dict):
            return replaced(default, value)
    elif isinstance(default, tuple):
        if isinstance(value, list) and all(isinstance(item, str) for item in value):
            return tuple(value)
    elif isinstance(default, bool):
        if isinstance(value, bool):
            return value
    elif isinstance(default, int) or name in OPTIONAL_INTEGERS:
        if number and isinstance(value, int) and abs(value) <= MAX_INTEGER:
            return value
    elif number and abs(value) < float("inf"):
        return float(value)
    raise BadConfig(f"test-time {name}", expected=f"a value like {default}", found=str(value)[:80])
