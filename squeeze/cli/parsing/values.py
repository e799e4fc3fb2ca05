"""Kinds of values that options take: words with the nearest one suggested, presets, token shards."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Callable, Iterable
from datetime import timedelta
from glob import glob, has_magic
from pathlib import Path
from typing import Any, TypeVar

import click

from squeeze.errors import BadData

F = TypeVar("F", bound=Callable[..., Any])


class Word(click.Choice[str]):
    """One of a few words; another one is refused with the nearest."""

    def convert(self, value: Any, param: Any, ctx: Any) -> str:
        """Return the word. Raises BadParameter."""
        if value not in self.choices:
            self.fail(unknown(value, self.choices), param, ctx)
        return str(value)


class TrainingPreset(click.ParamType[str]):
    """Name of a preset of `squeeze train`."""

    name = "name"

    def convert(self, value: Any, param: Any, ctx: Any) -> str:
        """Return the name. Raises BadParameter with the nearest one."""
        from squeeze.train.presets import PRESETS

        if value not in PRESETS:
            self.fail(unknown(value, PRESETS), param, ctx)
        return str(value)


class Updates(click.ParamType[int | timedelta]):
    """A number of updates, or a time for them in seconds, minutes or hours."""

    name = "updates"

    def convert(self, value: Any, param: Any, ctx: Any) -> int | timedelta:
        """Return the number or the time. Raises BadParameter."""
        text = str(value)
        if re.fullmatch("[0-9]{1,9}", text) and int(text):
            return int(text)
        match = re.fullmatch(r"([0-9]{1,9}(?:\.[0-9]{1,9})?)([smh])", text)
        if match:
            seconds = float(match[1]) * {"s": 1, "m": 60, "h": 3600}[match[2]]
            # below half a microsecond it is none
            if time := timedelta(seconds=seconds):
                return time
        self.fail(
            f"{text[:40]!r} is no number of updates (500) and no time for them (600s, 10m, 1h)",
            param,
            ctx,
        )


def unknown(value: object, words: Iterable[str]) -> str:
    """Return the sentence about a word that is none of those to choose from.

    >>> unknown("bets", ["fast", "best"])
    "'bets' is unknown; expected one of fast, best. Did you mean best?"
    """
    words = list(words)
    near = difflib.get_close_matches(str(value), words, n=1)
    question = f" Did you mean {near[0]}?" if near else ""
    return f"{str(value)[:40]!r} is unknown; expected one of {', '.join(words)}.{question}"


class Shards(click.ParamType[str]):
    """Files of tokens, named one by one or by a pattern in quotes."""

    name = "shards"

    def convert(self, value: Any, param: Any, ctx: Any) -> str:
        """Return the text: `shard_paths` expands it."""
        return str(value)


def shards_option(*names: str, required: bool = False, help: str) -> Callable[[F], F]:
    """Return a decorator that adds an option for token shards; it arrives as a tuple of paths."""
    return click.option(
        *names,
        type=Shards(),
        multiple=True,
        required=required,
        metavar="SHARDS",
        callback=lambda ctx, param, values: shard_paths(values),
        help=help,
    )


def shard_paths(patterns: Iterable[str | Path]) -> tuple[Path, ...]:
    """Return files in the order of the patterns, those of one pattern by name.

    Raises BadData for a pattern that no file matches; a name without a pattern is taken as it is.
    """
    paths: list[Path] = []
    for pattern in map(str, patterns):
        # a file with brackets in its name is itself
        exists = os.path.lexists(pattern)
        matches = [] if exists else [Path(path) for path in sorted(glob(pattern))]
        if not matches and not exists and has_magic(pattern):
            raise BadData(f"{pattern}: no such file", expected="token shards (.bin)")
        paths += matches or [Path(pattern)]
    return tuple(paths)
