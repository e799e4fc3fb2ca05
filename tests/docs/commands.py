"""The commands of the documentation, found in its code blocks, read as the command line does."""

from __future__ import annotations

import contextlib
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import click

from squeeze.cli import cli
from squeeze.errors import BadData

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
FENCED = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
INDENTED = re.compile(r"(?:^(?: {4}\S.*|)\n)+", re.MULTILINE)
STOPS = (">", "|", "&&", ";", "<")  # words at which the arguments of a command end


@dataclass(frozen=True)
class Command:
    """A command of `squeeze` as a page shows it: its arguments after the program's name."""

    page: str
    arguments: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.page}: squeeze {' '.join(self.arguments)}"


def commands() -> list[Command]:
    """Return every command of README, of docs/ and of the pages of help; abridged ones are left out."""
    found_commands = [
        Command(str(page.relative_to(ROOT)), arguments)
        for page in PAGES
        for text in blocks(page.read_text(encoding="utf-8"))
        for arguments in commands_of(text)
    ]
    for name, command in every_command():
        for arguments in commands_of(command.help or ""):
            found_commands.append(Command(f"{name} --help", arguments))
    return list(dict.fromkeys(found_commands))


def blocks(page: str) -> Iterator[str]:
    """Yield the text of the code blocks of a page, fenced and indented."""
    yield from (match[2] for match in FENCED.finditer(page))
    yield from (match[0] for match in INDENTED.finditer(FENCED.sub("", page)))


def commands_of(block: str) -> Iterator[tuple[str, ...]]:
    """Yield the arguments of each command of a block."""
    for line in block.replace("\\\n", " ").splitlines():
        lexer = shlex.shlex(line.removeprefix("$ "), posix=True, punctuation_chars="|&;<>")
        lexer.whitespace_split, lexer.commenters = True, "#"
        try:
            words = list(lexer)
        except ValueError:
            continue  # a sentence with an apostrophe
        while "squeeze" in words:
            words = words[words.index("squeeze") + 1 :]
            end = min((words.index(stop) for stop in STOPS if stop in words), default=len(words))
            arguments, words = tuple(words[:end]), words[end:]
            if arguments and "…" not in arguments and _is_command(arguments[0]):
                yield arguments


def _is_command(name: str) -> bool:
    return name in cli.list_commands(click.Context(cli))


def every_command() -> Iterator[tuple[str, click.Command]]:
    """Yield every command by name, those of groups as `group command`, and the program itself."""
    yield "squeeze", cli
    context = click.Context(cli)
    for name in cli.list_commands(context):
        command = cli.get_command(context, name)
        assert command is not None
        yield name, command
        if isinstance(command, click.Group):
            yield from ((f"{name} {inner}", inside) for inner, inside in command.commands.items())


def parse(arguments: tuple[str, ...]) -> None:
    """Read arguments as the command line does, running nothing. Raises UsageError."""
    command: click.Command = cli
    words = list(arguments)
    while isinstance(command, click.Group):
        inner = command.get_command(click.Context(command), words[0])
        if inner is None:
            raise click.UsageError(f"no command {words[0]}")
        command, words = inner, words[1:]
    with contextlib.suppress(BadData):  # a pattern: the shards of the page are not here
        command.make_context(arguments[0], words)
