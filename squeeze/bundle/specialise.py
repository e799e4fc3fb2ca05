"""The program that one entry is: what its options, errors and constants can never do is taken out."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial

from squeeze.bundle.load.flatten import Flat
from squeeze.bundle.load.fold import fold_constants
from squeeze.bundle.load.modules import BundleError
from squeeze.bundle.passes.arguments import settle_arguments
from squeeze.bundle.passes.checks import without_checks, without_texts
from squeeze.bundle.passes.entries import settle_entries
from squeeze.bundle.passes.fields import fix_fields
from squeeze.bundle.passes.idle_objects import without_idle_objects
from squeeze.bundle.passes.inline import inline
from squeeze.bundle.passes.instances import settle_instances
from squeeze.bundle.passes.settle import settle
from squeeze.bundle.passes.shake import shake
from squeeze.bundle.passes.simplify import shorten_classes, without_idle_statements
from squeeze.bundle.passes.strip import strip
from squeeze.bundle.passes.tables import spell_tables

ROUNDS = 20  # each makes the program smaller; more than ten were never needed

Pass = Callable[[ast.Module], object]  # changes the tree in place


@dataclass(frozen=True)
class ShrinkOptions:
    """Parts of a program that its owner gives up for fewer bytes.

    terse_errors: drop the texts of exceptions.
    checks: keep `if …: raise`, asserts, and handlers that only raise; False drops them.
    unchecked: exceptions whose checks go though the others stay.
    specialise: drop statements without effects, entries of tables that nothing reads, and bases and
        annotations that only describe.
    fields: attributes that are constants, as "Class.field": value; an error where a read of one cannot
        be told from reads of others.
    optional_fields: more of them, left alone where they cannot be told apart; what lists the fields of
        their classes may find fewer.
    """

    terse_errors: bool = False
    checks: bool = True
    unchecked: frozenset[str] = frozenset()
    specialise: bool = False
    fields: dict[str, object] = field(default_factory=dict)
    optional_fields: dict[str, object] = field(default_factory=dict)


NOTHING = ShrinkOptions()  # given up


def passes(options: ShrinkOptions, reach: Pass, keep: tuple[str, ...]) -> list[Pass]:
    """Return the passes of one round in their order; each may leave more for those before it.

    reach: the pass that drops what the program cannot reach. keep: names that stay.
    """
    table: list[tuple[bool, Pass]] = [
        (not options.checks, partial(without_checks, keep=keep)),
        (bool(options.unchecked), partial(without_checks, only=options.unchecked, keep=keep)),
        (options.terse_errors, without_texts),
        (options.specialise, partial(settle_entries, keep=keep)),
        (options.specialise, partial(without_idle_objects, keep=keep)),
        (options.specialise, partial(settle, keep=keep)),
        (options.specialise, partial(settle_arguments, keep=keep)),
        (options.specialise, partial(settle_instances, keep=keep)),
        (options.specialise, partial(inline, keep=keep)),
        (options.specialise, partial(without_idle_statements, keep=keep)),
        (True, fold_constants),
        (True, partial(strip, keep=frozenset(keep))),
        (True, reach),
    ]
    return [run for wanted, run in table if wanted]


def specialise(flat: Flat, keep: Iterable[str], options: ShrinkOptions) -> ast.Module:
    """Return the shaken program, changed in place, without what it can do without.

    keep: names of definitions that stay. Raises BundleError for a field that cannot be told apart.
    """
    keep = tuple(keep)
    tree, reach = flat.tree, partial(shake, keep=keep, loading=flat.loading)
    _fix_fields(flat, reach, options)
    for _ in range(2):  # what goes may have been all that read what describes the rest
        reach(tree)
        strip(tree, frozenset(keep))
    reach(tree)
    if options == NOTHING:
        return tree
    before = ""
    for _ in range(ROUNDS):
        for run in passes(options, reach, keep):
            run(tree)
        after = ast.dump(tree)
        if after == before:
            break
        before = after
    if options.specialise:
        shorten_classes(tree, keep)
        reach(tree)
    return tree


def _fix_fields(flat: Flat, reach: Pass, options: ShrinkOptions) -> None:
    """Put constants for fields while annotations are there; those first that all reads agree on.

    What they rule out may hold the only read of another field that cannot be told apart.
    """
    waiting = {**options.optional_fields, **options.fields}
    given_up = options.optional_fields.keys() - options.fields.keys()
    if options.specialise:
        spell_tables(flat.tree)
    refused: dict[str, BundleError] = {}
    while waiting:
        reach(flat.tree)
        refused = fix_fields(flat, waiting, given_up)
        fold_constants(flat.tree)
        if len(refused) == len(waiting):
            break
        waiting = {name: waiting[name] for name in refused}
    for name, error in refused.items():
        if name in options.fields:
            raise error
