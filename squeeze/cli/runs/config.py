"""Runs `squeeze config`: prints the settings of the project, option by option."""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterator, Mapping
from typing import Any

import click

from squeeze.cli import COMMANDS, cli
from squeeze.cli.parsing.project import (
    FILE,
    PREFIX,
    SHARED,
    Setting,
    find_project,
    settings_of,
)
from squeeze.cli.terminal.printing import print_json, print_line, print_notes, print_rows


def run(as_json: bool) -> None:
    """Print every setting that the file or a variable gives, and its source."""
    project = find_project()
    context = click.Context(cli)
    every = {name: cli.get_command(context, name) for name in COMMANDS}
    commands = {name: command for name, command in every.items() if command is not None}
    by_command: dict[str, dict[str, Setting]] = {}
    for name, command in commands.items():
        settings = settings_of(command, name, project) | _variables(command, name)
        for parameter in command.params:
            if parameter.name in settings:
                settings[parameter.name].check(parameter)
        if settings:
            by_command[name] = settings
    print_notes(_misspelt(commands))
    path = None if project is None else str(project.path)
    if as_json:
        plain = {
            name: {key: vars(setting) for key, setting in settings.items()}
            for name, settings in by_command.items()
        }
        print_json({"file": path, "settings": plain})
        return
    print_line(f"settings from {path}" if path else f"no {FILE} in this folder or above")
    for name, settings in by_command.items():
        rows = {
            f"{name} {_option(commands[name], key)}": f"{shown(s.value)}  ({s.source})"
            for key, s in settings.items()
        }
        print_rows(rows, 24)
    if not by_command:
        print_line(f"{', '.join(SHARED)} count for all commands; `squeeze config --help`")


def _option(command: click.Command, name: str) -> str:
    """Return the option that fills a parameter of a command, as it is written: --val, not data."""
    words = [word for p in command.params if p.name == name for word in p.opts]
    return next((word for word in words if word.startswith("--")), f"--{name}")


def _variables(command: click.Command, name: str) -> dict[str, Setting]:
    """Return the settings of variables that name the command, as Click reads them."""
    settings: dict[str, Setting] = {}
    for parameter in command.params:
        variable = _variable(name, parameter)
        if isinstance(parameter, click.Option) and (text := os.environ.get(variable)):
            value = parameter.type.split_envvar_value(text) if parameter.multiple else text
            settings[str(parameter.name)] = Setting(value, variable)
    return settings


def _variable(name: str, parameter: click.Parameter) -> str:
    return f"{PREFIX}_{name}_{parameter.name}".upper()


def _misspelt(commands: Mapping[str, click.Command]) -> Iterator[str]:
    """Yield a sentence on each variable that is nearly the name of one that would count."""
    names = {_variable(name, p) for name, command in commands.items() for p in command.params}
    names |= {f"{PREFIX}_{key}".upper() for key in SHARED}
    for variable in sorted(os.environ.keys() - names):
        near = difflib.get_close_matches(variable, names, n=1, cutoff=0.85)
        if variable.startswith(f"{PREFIX}_") and near:
            yield f"{variable} counts for nothing. Did you mean {near[0]}?"


def shown(value: Any) -> str:
    """Return a value in words."""
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
