"""Runs `squeeze inspect`: prints the facts about a model, or the settings in which two differ."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich.table import Table

from squeeze.calib.taps.coverage import Coverage
from squeeze.checkpoint.inspect import TensorFacts, compare_settings, inspect_model
from squeeze.cli.terminal.printing import print_json, print_line, print_notes
from squeeze.subject.source import ModelSource
from squeeze.views.console import PlainConsole


def run_inspection(source: ModelSource, as_json: bool) -> None:
    """Print the facts about a checkpoint or artifact, and the coverage of a script's model."""
    path, statements = str(source.path), source.statements
    if source.script is not None:
        statements = {"entry": statements.get("entry")}
    facts, coverage = inspect_model(path, **statements), None
    if source.script is not None:
        subject = source.open().subject
        coverage = Coverage.of(subject.tapped(subject.some_ids()).layout)
    if as_json:
        print_json(facts.as_json() | ({"coverage": coverage.as_json()} if coverage else {}))
        return
    print_line(f"{path}: {facts.format}, {facts.bytes:,} bytes, {facts.parameters:,} parameters")
    print_line(f"sha256 {facts.sha256}")
    if facts.config is not None:
        print_line(f"model   {facts.config.to_json()}")
    if facts.recipe is not None:
        print_line(f"recipe  {facts.recipe.to_json()}")
    print_notes(facts.notes)
    print_tensors(facts.tensors)
    for line in coverage.lines() if coverage else ():
        print_line(line)


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
            # a name with spaces must not wrap into a line that looks like another
            facts.tensor.replace(" ", "\N{NO-BREAK SPACE}"),
            "×".join(map(str, facts.shape)),
            facts.storage,
            "" if facts.codes is None else f"{facts.codes[0]}…{facts.codes[1]}",
            f"{facts.rms:.4g}",
            f"{facts.max:.4g}",
        )
    PlainConsole().print(table)
