"""The class of all commands: defaults from the project, help in groups."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from typing import Any

import click
from click.core import ParameterSource

from squeeze.cli.parsing.project import Setting, check_keys, find_project, settings_of, sourced
from squeeze.cli.terminal.next_step import print_next
from squeeze.cli.terminal.printing import print_line

# Options by the group they are shown in; those of no group stand under Options.
GROUPS: dict[str, tuple[str, ...]] = {
    "Input": (
        "data", "val", "train_data", "tokenizer", "code", "plan", "code_report", "base", "parent",
        "parents", "trainings", "seed_runs", "logs", "files", "encoded", "against", "packages",
    ),
    "Output": (
        "out", "output", "as_json", "verbose", "html", "markdown", "plot", "frontier", "tensorboard",
        "wandb", "readable", "open_page", "force",
    ),
    "Calibration": ("calibration", "source", "temperature", "tune", "fresh"),
    "Model": (
        "script", "shim", "entry", "like", "settings_file", "assume", "seq_len", "settings",
        "config_json",
    ),
}  # fmt: skip
SLOW = (
    "demo",
    "train",
    "pack",
    "calibrate",
    "eval",
    "audit",
    "prove",
    "submit",
    "bundle",
    "unpack",
    "review",
)
SLOW_OPTIONS = ("squeezed", "floors", "html")  # of `budget`
FIRST, REST = "Input", "Options"


class Command(click.Command):
    """A command whose options take their defaults from squeeze.toml and SQUEEZE_… variables."""

    def make_context(
        self,
        info_name: str | None,
        args: list[str],
        parent: click.Context | None = None,
        **extra: Any,
    ) -> click.Context:
        """Return the context, with the defaults of the project."""
        from squeeze.cli import COMMANDS

        project = find_project()
        if project is not None:
            check_keys(project, COMMANDS)
        settings = settings_of(self, info_name or "", project)
        extra["default_map"] = {name: setting.words for name, setting in settings.items()}
        try:
            return super().make_context(info_name, args, parent, **extra)
        except click.BadParameter as error:
            raise _sourced(error, settings) from None

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; say at once that it begins, and in the end what usually comes next."""
        # torch alone takes seconds to load, during which nothing else can be said
        slow = self.name in SLOW or any(ctx.params.get(name) for name in SLOW_OPTIONS)
        if slow and sys.stderr.isatty() and os.environ.get("RANK", "0") == "0":
            print_line(f"{self.name}: loading …", err=True)
        result = super().invoke(ctx)
        print_next(str(self.name), ctx.params)
        return result

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options group by group."""
        rows: dict[str, list[tuple[str, str]]] = {}
        calibrates = any(p.name in ("calibration", "source") for p in self.params)
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is not None and isinstance(parameter, click.Option):
                rows.setdefault(group_of(parameter, calibrates), []).append(record)
        for title in (FIRST, REST, *(title for title in GROUPS if title != FIRST)):
            if title in rows:
                with formatter.section(title):
                    formatter.write_dl(rows[title])


def _sourced(error: click.BadParameter, settings: Mapping[str, Setting]) -> click.BadParameter:
    """Return the error with the file or variable that a value is from, which no option gave."""
    name = error.param.name if error.param else None
    given = error.ctx.get_parameter_source(name) if error.ctx and name else None
    if given is ParameterSource.DEFAULT_MAP and name in settings:
        source = settings[str(name)].source
    elif given is ParameterSource.ENVIRONMENT and error.ctx:
        source = f"{error.ctx.auto_envvar_prefix}_{name}".upper()
    else:
        return error
    return click.BadParameter(sourced(error, source), error.ctx, error.param)


def group_of(parameter: click.Parameter, calibrates: bool) -> str:
    """Return the title under which an option is shown.

    calibrates: the command writes or reads calibration text, whose size `--tokens` is then
    """
    if calibrates and parameter.name in ("tokens", "seed", "length"):
        return "Calibration"
    for title, names in GROUPS.items():
        if parameter.name in names:
            return title
    return REST
