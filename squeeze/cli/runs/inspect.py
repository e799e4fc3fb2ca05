"""Runs `squeeze inspect`: prints the facts about a model, or the settings in which two differ."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich.table import Table

from squeeze.checkpoint.inspect import TensorFacts, compare_settings, inspect_model
from squeeze.cli.terminal.printing import print_json, print_line, print_notes
from squeeze.views.console import PlainConsole


def run_inspection(path: str, architecture: Mapping[str, Any], as_json: bool) -> None:
    """Print the facts about a checkpoint or artifact."""
    facts = inspect_model(path, **architecture)
    if as_json:
        print_json(facts.as_json())
        return
    print_line(f"{path}: {facts.format}, {facts.bytes:,} bytes, {facts.parameters:,} parameters")
    print_line(f"sha256 {facts.sha256}")
    print_line(f"model   {facts.config.to_json()}")
    if facts.recipe is not None:
        print_line(f"recipe  {facts.recipe.to_json()}")
    print_notes(facts.notes)
    print_tensors(facts.tensors)


def run_comparison(paths: Sequence[str], architecture: Mapping[str, Any], as_json: bool) -> None:
    """Print the settings of model and training in which two files differ."""
    difference = compare_settings(paths, **architecture)
    if as_json:
        print_json(difference.as_json())
        return
    for name, (before, after) in difference.differ.items():
        print_line(f"{name:<20} {before} → {after}")
    if not difference.differ:
        print_line("no setting differs")
    print_notes(f"{path} does not say how it was trained" for path in difference.without_recipe)


def print_tensors(tensors: Iterable[TensorFacts]) -> None:
    """Print a row for each tensor."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("tensor", "shape", "storage", "codes"):
        table.add_column(title)
    for title in ("rms", "max"):
        table.add_column(title, justify="right")
    for facts in tensors:
        table.add_row(
            facts.tensor,
            "×".join(map(str, facts.shape)),
            facts.storage,
            "" if facts.codes is None else f"{facts.codes[0]}…{facts.codes[1]}",
            f"{facts.rms:.4g}",
            f"{facts.max:.4g}",
        )
    PlainConsole().print(table)
