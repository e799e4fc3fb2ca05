"""Fields of configurations, declared with their range: checked everywhere, and read from text."""

from __future__ import annotations

import dataclasses
import difflib
import json
import math
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

from squeeze.errors import BadConfig

T = TypeVar("T")
VALIDATING = True  # configurations check themselves when they are made
MOST = 1 << 10  # entries of a list


def number(low: float, high: float, default: Any = dataclasses.MISSING) -> Any:
    """Declare a field for an integer (integer default, or none) or a float, in low…high."""
    if not VALIDATING:
        return default
    return dataclasses.field(default=default, metadata={"low": low, "high": high})


def choice(default: str, options: tuple[str, ...]) -> Any:
    """Declare a field for one of a few words."""
    if not VALIDATING:
        return default
    return dataclasses.field(default=default, metadata={"options": options})


def check(field: dataclasses.Field[Any], value: object) -> None:
    """Raise BadConfig unless value is of the field's kind and in its range."""
    kind = kind_of(field)
    if kind is tuple:
        if not isinstance(value, tuple) or len(value) > MOST:
            raise BadConfig(field.name, expected=f"at most {MOST} block numbers", found=value)
        for entry in value:
            check_integer(f"{field.name} entry", entry, 0, MOST - 1)
    elif kind is bool:
        if not isinstance(value, bool):
            raise BadConfig(field.name, expected="true or false", found=value)
    elif kind is str:
        if value not in field.metadata["options"]:
            options = ", ".join(field.metadata["options"])
            raise BadConfig(field.name, expected=f"one of {options}", found=repr(value)[:80])
    elif kind is int:
        check_integer(field.name, value, field.metadata["low"], field.metadata["high"])
    else:
        _check_float(field.name, value, field.metadata["low"], field.metadata["high"])


def check_integer(name: str, value: object, low: int, high: int) -> None:
    """Raise BadConfig unless value is an integer in low…high."""
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise BadConfig(name, expected=f"an integer in {low}..{high}", found=repr(value)[:80])


def _check_float(name: str, value: Any, low: float, high: float) -> None:
    real = isinstance(value, int | float) and not isinstance(value, bool)
    if not (real and math.isfinite(value) and low <= value <= high):
        raise BadConfig(
            name, expected=f"a finite number in {low:g}..{high:g}", found=repr(value)[:80]
        )


def kind_of(field: dataclasses.Field[Any]) -> type:
    """Return the type of a field's values: int, float, bool, str or tuple."""
    return int if field.default is dataclasses.MISSING else type(field.default)


def parse(field: dataclasses.Field[Any], text: str) -> Any:
    """Return a field's value, read from the command line; raises BadConfig.

    Lists are numbers and ranges, `3-5,7`; an empty text is an empty list.
    """
    kind = kind_of(field)
    try:
        if kind is tuple:
            return tuple(n for part in text.split(",") if part.strip() for n in _range(part))
        if kind is bool:
            return {"true": True, "on": True, "1": True, "false": False, "off": False, "0": False}[
                text.lower()
            ]
        return text if kind is str else kind(text)
    except (ValueError, KeyError):
        what = {"tuple": "block numbers such as 3-5,7", "bool": "true or false"}
        expected = what.get(kind.__name__, kind.__name__)
        raise BadConfig(field.name, expected=expected, found=text) from None


def _range(text: str) -> range:
    first, _, last = text.partition("-")
    start, stop = int(first), int(last or first) + 1
    if not 0 < stop - start <= MOST:
        raise ValueError("a range from the end to the beginning, or longer than any model")
    return range(start, stop)


def refuse_unknown(what: str, names: Iterable[str], declared: Iterable[str]) -> None:
    """Raise BadConfig for names that do not exist, suggesting the nearest ones that do."""
    choices = sorted(declared)
    unknown = sorted(set(names) - set(choices))
    if not unknown:
        return
    near = difflib.get_close_matches(unknown[0], choices, n=3)
    raise BadConfig(
        f"{what}: unknown name",
        expected=None if near else ", ".join(choices),
        found=", ".join(unknown)[:200],
        fix=f"Did you mean {' or '.join(near)}?" if near else "Use a newer squeeze, or drop it.",
    )


def changes(before: Any, after: Any) -> dict[str, tuple[Any, Any]]:
    """Return the fields in which two configurations of a kind differ: name → (before, after).

    >>> from squeeze.train.model.config import ModelConfig
    >>> changes(ModelConfig(8, 1, 8, 2, 1, 8), ModelConfig(8, 1, 8, 2, 1, 16))
    {'mlp_hidden': (8, 16)}
    """
    names = [field.name for field in dataclasses.fields(before)]
    pairs = {name: (getattr(before, name), getattr(after, name)) for name in names}
    return {name: (old, new) for name, (old, new) in pairs.items() if old != new}


def read_object(what: str, text: str | bytes) -> dict[str, Any]:
    """Return a JSON object without repeated names; raises BadConfig."""

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        fields = dict(pairs)
        if len(fields) != len(pairs):
            raise BadConfig(f"{what} names a field twice")
        return fields

    try:
        fields = json.loads(text, object_pairs_hook=unique)
    except (ValueError, RecursionError) as error:
        raise BadConfig(f"{what} is not JSON", found=str(error)[:80]) from None
    if not isinstance(fields, dict):
        raise BadConfig(what, expected="a JSON object", found=type(fields))
    return fields


def settings(texts: Iterable[str], option: str = "--set") -> dict[str, str]:
    """Return `name=value` pairs of the command line by name; raises BadConfig."""
    pairs = [text.partition("=") for text in texts]
    for name, equals, value in pairs:
        if not (name.strip() and equals):
            raise BadConfig(option, expected="name=value", found=f"{name}{equals}{value}"[:80])
    return {name.strip(): value.strip() for name, _, value in pairs}


def parsed(kind: Any, texts: Mapping[str, str]) -> dict[str, Any]:
    """Return values of a configuration class's fields, read from text; raises BadConfig."""
    fields = {field.name: field for field in dataclasses.fields(kind)}
    refuse_unknown("--set", texts, fields)
    return {name: parse(fields[name], text) for name, text in texts.items()}
