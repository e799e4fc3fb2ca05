"""Runs `squeeze inspect` where numpy is missing: prints a file's header. No numpy, no torch."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

from rich.table import Table

from squeeze.checkpoint.outline import TensorOutline, outline
from squeeze.cli.terminal.printing import print_json, print_line, print_notes
from squeeze.views.console import PlainConsole


class Stored(Protocol):
    """A tensor of a file: its name, its role and the format it is stored in."""

    @property
    def tensor(self) -> str: ...
    @property
    def role(self) -> str: ...
    @property
    def storage(self) -> str: ...


@dataclass
class RoleSum:
    """Tensors of one role. storage: their formats in order of appearance."""

    tensors: int
    weights: int
    storage: dict[str, None]


def run_outline(path: str, as_json: bool, verbose: bool) -> None:
    """Print the outline of a checkpoint or artifact."""
    facts = outline(path)
    if as_json:
        print_json(facts.as_json())
        return
    print_head(facts.path, facts.format, facts.bytes, facts.parameters)
    print_line(f"sha256  {facts.sha256}")
    print_notes(facts.notes)
    if verbose:
        print_shapes(facts.tensors)
    else:
        print_roles([(tensor, tensor.elements) for tensor in facts.tensors])


def print_head(path: str, file_format: str, size: int, parameters: int) -> None:
    """Print the line that says what a file is."""
    print_line(f"{path}: {file_format}, {size:,} bytes, {parameters:,} parameters")


def print_roles(sized: Iterable[tuple[Stored, int]]) -> None:
    """Print a row for each role of tensors, given with their numbers of weights."""
    sums: dict[str, RoleSum] = {}
    for stored, weights in sized:
        role = sums.setdefault(stored.role or "other", RoleSum(0, 0, {}))
        role.tensors += 1
        role.weights += weights
        role.storage[stored.storage] = None
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("role")
    table.add_column("tensors", justify="right")
    table.add_column("weights", justify="right")
    table.add_column("storage")
    for name, role in sums.items():
        table.add_row(name, f"{role.tensors:,}", f"{role.weights:,}", ", ".join(role.storage))
    PlainConsole().print(table)
    print_line("each tensor: -v")


def print_shapes(tensors: Iterable[TensorOutline]) -> None:
    """Print a row for each tensor."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("tensor", "shape", "storage"):
        table.add_column(title)
    for stored in tensors:
        shape = f"{stored.elements:,} weights"
        if stored.shape is not None:
            shape = "×".join(map(str, stored.shape))
        # a name with spaces must not wrap into a line that looks like another
        table.add_row(stored.tensor.replace(" ", "\N{NO-BREAK SPACE}"), shape, stored.storage)
    PlainConsole().print(table)
