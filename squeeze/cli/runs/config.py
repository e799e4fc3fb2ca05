"""Runs `squeeze config`: prints the settings of the project, option by option."""

from __future__ import annotations

import os
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
from squeeze.cli.terminal.printing import print_json, print_line, print_rows


def run(as_json: bool) -> None:
    """Print every setting that the file or a variable gives, and its source."""
    project = find_project()
    context = click.Context(cli)
    by_command: dict[str, dict[str, Setting]] = {}
    for name in COMMANDS:
        command = cli.get_command(context, name)
        assert command is not None
        settings = settings_of(command, name, project) | _variables(command, name)
        if settings:
            by_command[name] = settings
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
        print_rows(
            {f"{name} --{key}": f"{shown(s.value)}  ({s.source})" for key, s in settings.items()},
            24,
        )
    if not by_command:
        print_line(f"{', '.join(SHARED)} count for all commands; `squeeze config --help`")


def _variables(command: click.Command, name: str) -> dict[str, Setting]:
    """Return the settings of variables that name the command, as Click reads them."""
    settings: dict[str, Setting] = {}
    for parameter in command.params:
        variable = f"{PREFIX}_{name}_{parameter.name}".upper()
        if isinstance(parameter, click.Option) and os.environ.get(variable):
            settings[str(parameter.name)] = Setting(os.environ[variable], variable)
    return settings


def shown(value: Any) -> str:
    """Return a value in words."""
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
