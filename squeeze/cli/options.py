"""Options that several commands share."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import click

from squeeze.cli.parsing.values import Word

PRECISIONS = ("fp32", "tf32", "bf16")  # of the products of a forward
F = TypeVar("F", bound=Callable[..., Any])

DEFAULT_LIMIT = 16_000_000  # decimal bytes: the challenge's cap on code plus weights
TEXT_SOURCES = ("self", "shards", "random")  # of calibration text


def precision_option(hidden: bool = False) -> Callable[[F], F]:
    """Return the option of what products of a forward are computed in.

    hidden: of a page of help that has no room for it
    """
    return click.option(
        "--precision",
        type=Word(PRECISIONS),
        default="fp32",
        show_default=True,
        hidden=hidden,
        help="Products of the forward.",
    )


class Seed(click.ParamType):  # type: ignore[type-arg]  # generic since Click 8.5
    """A seed that numpy and torch both take: 0 … 2^63 - 1."""

    name = "integer"

    def convert(self, value: Any, param: Any, ctx: Any) -> int:
        """Return the number. Raises BadParameter."""
        try:
            seed = int(value)
        except ValueError:
            seed = -1
        if not 0 <= seed < 1 << 63:
            self.fail(f"{str(value)[:40]!r} is not a whole number from 0 to 2^63 - 1", param, ctx)
        return seed


class Whole(click.IntRange):
    """A whole number in a range, with commas between thousands or without: squeeze prints them with."""

    def convert(self, value: Any, param: Any, ctx: Any) -> int:
        """Return the number. Raises BadParameter."""
        if isinstance(value, str) and re.fullmatch(r"\s*\d{1,3}(,\d{3})+\s*", value):
            value = value.replace(",", "")
        try:
            number = int(str(value))
        except ValueError:
            self.fail(f"{str(value)[:40]!r} is not a whole number: digits, no unit", param, ctx)
        return int(super().convert(number, param, ctx))


class Finite(click.FloatRange):
    """A number in a range, which neither NaN nor infinity is."""

    def convert(self, value: Any, param: Any, ctx: Any) -> float:
        """Return the number. Raises BadParameter."""
        number = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{str(value)[:40]!r} is not a finite number", param, ctx)
        return float(number)


SEED = Seed()
THREADS = Whole(1, 1 << 10)  # more would take every process of the machine


class Schedule(click.ParamType):  # type: ignore[type-arg]  # generic since Click 8.5
    """Block numbers in the order they run, as `0,1,2,1,2,3`."""

    name = "blocks"

    def convert(self, value: Any, param: Any, ctx: Any) -> tuple[int, ...]:
        if isinstance(value, tuple):
            return value
        try:
            return tuple(int(part) for part in value.split(","))
        except ValueError:
            self.fail(f"{value!r} is not a list of block numbers such as 0,1,2,1,2,3", param, ctx)


_ARCHITECTURE = [
    click.option("--entry", metavar="NAME", help="Set of weights to read, such as ema."),
    click.option("--like", metavar="NAME", help="Layout, such as record-1855 (docs/layouts.md)."),
    click.option(
        "--settings",
        "settings_file",
        type=click.Path(dir_okay=False),
        metavar="FILE",
        help="Its script's settings, JSON.",
    ),
    click.option("--assume", is_flag=True, help="Take defaults for what no file says."),
    # five more that --set has, too, and that a page of help has no room for
    click.option("--heads", "num_heads", type=int, metavar="N", hidden=True),
    click.option("--rope-base", type=float, metavar="X", hidden=True),
    click.option("--softcap", "logit_softcap", type=float, metavar="X", hidden=True),
    click.option("--mlp-power", type=Whole(1, 3), metavar="N", hidden=True),
    click.option("--seq-len", type=Whole(min=1), metavar="N", help="Window in tokens."),
    click.option("--layer-schedule", type=Schedule(), hidden=True),
    click.option(
        "--set",
        "settings",
        multiple=True,
        metavar="NAME=VALUE",
        help="Any other option of the model.",
    ),
]

_SCRIPT = [
    click.option("--model", "script", metavar="FILE.py:NAME", help="Script that runs the weights."),
    click.option("--shim", is_flag=True, help="Replace kernels that it lacks here."),
]


def script_options(command: F) -> F:
    """Add flags for a model of the user's own: keyword arguments `script` and `shim`."""
    for option in reversed(_SCRIPT):
        command = option(command)
    return command


ARCHITECTURE_FIELDS = (
    "entry",
    "num_heads",
    "mlp_power",
    "seq_len",
    "rope_base",
    "logit_softcap",
    "layer_schedule",
)


def architecture_options(command: F) -> F:
    """Add flags for settings that a checkpoint without a stored configuration lacks.

    They arrive as one argument, `architecture`: keywords of `squeeze.checkpoint.read.load_model`.
    """

    def gathered(*args: Any, **kwargs: Any) -> Any:
        from squeeze.train.fields import parsed, settings
        from squeeze.train.model.config import ModelConfig

        fields = {name: kwargs.pop(name) for name in ARCHITECTURE_FIELDS}
        fields |= parsed(ModelConfig, settings(kwargs.pop("settings")))
        statements = {name: kwargs.pop(name) for name in ("like", "assume")}
        fields |= statements | {"settings": kwargs.pop("settings_file")}
        return command(*args, architecture=fields, **kwargs)

    return _with_options(gathered, command, _ARCHITECTURE)


def mode_options(modes: Sequence[str], stride: str = "64") -> Callable[[F], F]:
    """Return a decorator that adds the flags of a scoring mode.

    modes: names to choose from, the default first
    stride: default of --stride, in words

    They arrive as one keyword argument, `mode`: a `squeeze.score.modes.Mode`.
    """
    options = [
        click.option(
            "--mode",
            "mode_name",
            type=Word(modes),
            default=modes[0],
            show_default=True,
            help="How to score.",
        ),
        click.option(
            "--length",
            type=Whole(1, 1 << 20),
            metavar="N",
            help="Tokens of a window  [default: the model's].",
        ),
        click.option(
            "--stride",
            type=Whole(min=1),
            metavar="N",
            help=f"Tokens by which windows move  [default: {stride}].",
        ),
        click.option(
            "--ttt",
            multiple=True,
            metavar="NAME=VALUE",
            help="Set an option of a ttt mode; repeatable.",
        ),
    ]

    def decorate(command: F) -> F:
        def gathered(*args: Any, **kwargs: Any) -> Any:
            from squeeze.score.modes import Mode
            from squeeze.train.fields import settings

            name, length, width = (kwargs.pop(key) for key in ("mode_name", "length", "stride"))
            mode = Mode(name, length, width, settings(kwargs.pop("ttt"), "--ttt"))
            return command(*args, mode=mode, **kwargs)

        return _with_options(gathered, command, options)

    return decorate


def _with_options(gathered: Any, command: F, options: Sequence[Callable[[Any], Any]]) -> F:
    """Return `gathered` in place of a command, with the command's name, text and flags, and more."""
    gathered.__doc__, gathered.__name__ = command.__doc__, command.__name__
    gathered.__click_params__ = getattr(command, "__click_params__", [])
    for option in reversed(options):
        gathered = option(gathered)
    return gathered


other_tokenizer_option = click.option(
    "--other-tokenizer", is_flag=True, help="Accept another tokenizer; say so."
)
verbose_option = click.option("-v", "--verbose", is_flag=True, help="A row for each tensor.")
json_option = click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout.")
limit_option = click.option(
    "--limit",
    type=Whole(min=1),
    default=DEFAULT_LIMIT,
    show_default=True,
    metavar="BYTES",
    help="Byte limit.",
)
