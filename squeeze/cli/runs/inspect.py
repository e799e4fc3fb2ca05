"""Runs `squeeze inspect`: prints the facts about a model, or the settings in which two differ."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from math import prod
from typing import TYPE_CHECKING, Any

from rich.table import Table

from squeeze.artifact.facts import assumed_notes
from squeeze.checkpoint.inspect import Inspection, TensorFacts, compare_settings, inspect_model
from squeeze.cli.runs.outline import print_head, print_roles
from squeeze.cli.terminal.printing import print_json, print_line, print_notes
from squeeze.views.console import PlainConsole

if TYPE_CHECKING:
    from squeeze.calib.taps.coverage import Coverage
    from squeeze.subject.source import ModelSource


def run_inspection(
    path: str, statements: Mapping[str, Any], as_json: bool, verbose: bool = False
) -> None:
    """Print the facts about a checkpoint or artifact. statements: keywords of `inspect_model`."""
    facts = inspect_model(path, **statements)
    print_json(facts.as_json()) if as_json else print_facts(facts, verbose)


def run_script_inspection(source: ModelSource, as_json: bool, verbose: bool = False) -> None:
    """Print the facts about the weights of a script's model, and its coverage."""
    from squeeze.calib.taps.coverage import Coverage

    facts = inspect_model(str(source.path), entry=source.statements.get("entry"))
    subject = source.open().subject
    coverage: Coverage = Coverage.of(subject.tapped(subject.drawn_ids()).layout)
    if as_json:
        print_json(facts.as_json() | {"coverage": coverage.as_json()})
        return
    print_facts(facts, verbose)
    for line in coverage.lines():
        print_line(line)


def print_facts(facts: Inspection, verbose: bool) -> None:
    """Print the head of a file, then its tensors: a line for each role, or for each tensor."""
    print_head(facts.path, facts.format, facts.bytes, facts.parameters)
    print_line(f"sha256  {facts.sha256}")
    if facts.config is not None:
        print_line(f"model   {facts.config.to_json()}")
    if facts.recipe is not None:
        print_line(f"recipe  {facts.recipe.to_json()}")
    print_notes(facts.notes)
    if verbose:
        print_tensors(facts.tensors)
    else:
        print_roles([(tensor, prod(tensor.shape)) for tensor in facts.tensors])


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
    for path, assumed in zip(difference.paths, difference.assumed, strict=True):
        print_notes(f"{path}: {note}" for note in assumed_notes(assumed))


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
