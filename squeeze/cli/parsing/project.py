"""Settings that hold for a whole project: squeeze.toml, found upwards, and variables SQUEEZE_….

A value on the command line comes first, then the variable, then the file, then the default.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from squeeze.cli.parsing.values import Shards, unknown
from squeeze.errors import printable

FILE = "squeeze.toml"
PREFIX = "SQUEEZE"
MOST = 1 << 20  # bytes of the file
# keys outside tables, which are options, and the commands that they hold for
SHARED: dict[str, tuple[str, ...]] = {
    "tokenizer": ("train", "pack", "eval", "audit", "prove", "submit"),
    "data": ("train",),
    "val": ("train", "eval", "audit", "prove", "submit"),
    "limit": ("pack", "budget", "review", "submit", "audit"),
    "model": ("pack", "calibrate", "eval", "inspect"),
}


@dataclass(frozen=True)
class Setting:
    """A value that counts for an option. source: a file or a variable, in words."""

    value: Any
    source: str

    @property
    def words(self) -> Any:
        """The value as it would be written on the command line, where 1.5 and true are no integers."""
        if isinstance(self.value, list):
            return [str(entry) for entry in self.value]
        return str(self.value)

    def check(self, parameter: click.Parameter) -> None:
        """Raise BadParameter, which names the source, for a value that the option does not take."""
        try:
            parameter.type_cast_value(click.Context(click.Command(None)), self.words)
        except click.BadParameter as error:
            raise click.BadParameter(sourced(error, self.source), param=parameter) from None


def sourced(error: click.BadParameter, source: str) -> str:
    """Return the message of an error with the file or variable that the value is from."""
    return f"{error.message.rstrip('.')} (from {source})"


@dataclass(frozen=True)
class Project:
    """The settings file of a project. values: as it holds them; tables are by command."""

    path: Path
    values: Mapping[str, Any]

    def resolved(self, value: Any, parameter: click.Parameter) -> Any:
        """Return a value with its paths taken from the folder of the file."""
        if isinstance(value, list):
            return [self.resolved(entry, parameter) for entry in value]
        if isinstance(value, str) and isinstance(parameter.type, click.Path | Shards):
            return str(self.path.parent / value)
        if isinstance(value, str) and parameter.name == "script":
            return str(self.path.parent / value)
        return value


def find_project() -> Project | None:
    """Return the settings of this folder, or of the nearest one above. Raises UsageError."""
    here = Path.cwd().resolve()
    for above in (here, *here.parents):
        path = above / FILE
        if path.is_file():
            return Project(path, _read(path))
    return None


def _read(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            data = file.read(MOST + 1)
        if len(data) > MOST:
            raise click.UsageError(f"{path}: larger than {MOST:,} bytes")
        return tomllib.loads(data.decode())
    except OSError as error:
        raise click.UsageError(f"{path}: cannot be read: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise click.UsageError(f"{path}: not TOML: {printable(str(error))[:200]}") from None


def check_keys(project: Project, commands: Mapping[str, object]) -> None:
    """Raise UsageError for a key of the file that is neither shared nor a table of a command."""
    for key, value in project.values.items():
        words = [*SHARED, *(f"[{name}]" for name in commands if name not in SHARED)]
        if (f"[{key}]" if isinstance(value, dict) else key) not in words:
            shown = f"[{key}]" if isinstance(value, dict) else key
            raise click.UsageError(f"{project.path}: {unknown(shown, words)}")


def settings_of(command: click.Command, name: str, project: Project | None) -> dict[str, Setting]:
    """Return the settings of the project that count for a command, by name of the parameter.

    Raises UsageError for a name in the command's table that is no option of it, and for a list of
    values for an option that takes one.
    """
    named = {option: p for p in command.params for option in _names(p)}
    settings: dict[str, Setting] = {}
    for key, commands in SHARED.items():
        parameter = named.get(key)
        if name not in commands or parameter is None or parameter.name is None:
            continue
        if project is not None and key in project.values:
            value = project.resolved(project.values[key], parameter)
            settings[parameter.name] = Setting(_shaped(value, parameter), str(project.path))
        variable = f"{PREFIX}_{key.upper()}"
        if os.environ.get(variable):
            text = os.environ[variable]
            settings[parameter.name] = Setting(_shaped(text, parameter), variable)
    table = {} if project is None else project.values.get(name, {})
    if not isinstance(table, dict):  # a shared key that is the name of a command, too, as `data` is
        table = {}
    for key, value in table.items():
        parameter = named.get(key)
        if parameter is None or parameter.name is None or project is None:
            raise click.UsageError(f"[{name}] in {FILE}: {unknown(key, named)}")
        if not os.environ.get(f"{PREFIX}_{key.upper()}") or parameter.name not in settings:
            shaped = _shaped(project.resolved(value, parameter), parameter)
            settings[parameter.name] = Setting(shaped, f"{project.path} [{name}]")
    return settings


def _names(parameter: click.Parameter) -> list[str]:
    """Return the long names of an option, without dashes."""
    options = parameter.opts if isinstance(parameter, click.Option) else ()
    return [name.removeprefix("--") for name in options if name.startswith("--")]


def _shaped(value: Any, parameter: click.Parameter) -> Any:
    """Return a list for an option that is given several times. Raises UsageError for any other list."""
    several = isinstance(parameter, click.Option) and parameter.multiple
    if several and not isinstance(value, list):
        return [value]
    entries = value if several else [value]
    if any(isinstance(entry, list | dict) for entry in entries):
        wanted = "values or a list of them" if several else "one value"
        raise click.UsageError(f"{FILE}: {parameter.opts[-1]} takes {wanted}, found {value!r:.60}")
    return value
