"""The program that one entry is: what its options, errors and constants can never do is taken out."""

from __future__ import annotations

import ast
from collections.abc import Iterable
from dataclasses import dataclass, field

from squeeze.bundle.load.flatten import Flat
from squeeze.bundle.load.fold import fold_constants
from squeeze.bundle.load.modules import BundleError
from squeeze.bundle.passes.checks import without_checks, without_texts
from squeeze.bundle.passes.entries import settle_entries
from squeeze.bundle.passes.fields import fix_fields
from squeeze.bundle.passes.shake import shake
from squeeze.bundle.passes.simplify import shorten_classes, without_idle_statements

ROUNDS = 20  # each makes the program smaller; more than ten were never needed


@dataclass(frozen=True)
class Liberties:
    """What the entrant lets go of.

    terse_errors: texts of exceptions. checks: `if …: raise`, asserts, handlers that raise (False drops
    them). specialise: statements without effects, entries of tables that nobody asks for, bases and
    annotations that only describe. fields: attributes that are constants; wishes: more of them, which
    stay where nobody can tell them apart.
    """

    terse_errors: bool = False
    checks: bool = True
    specialise: bool = False
    fields: dict[str, object] = field(default_factory=dict)  # "Class.field": value
    wishes: dict[str, object] = field(default_factory=dict)


def specialise(flat: Flat, keep: Iterable[str], liberties: Liberties) -> ast.Module:
    """The shaken program (changed in place) without what it can do without."""
    keep, tree = tuple(keep), flat.tree
    _fix(flat, keep, liberties)
    shake(tree, keep)
    if liberties == Liberties():
        return tree
    before = ""
    for _ in range(ROUNDS):
        if not liberties.checks:
            without_checks(tree)
        if liberties.terse_errors and not before:
            without_texts(tree)
        if liberties.specialise:
            settle_entries(tree)
            without_idle_statements(tree)
        fold_constants(tree)
        shake(tree, keep)
        after = ast.dump(tree)
        if after == before:
            break
        before = after
    if liberties.specialise:
        shorten_classes(tree)
        shake(tree, keep)
    return tree


def _fix(flat: Flat, keep: tuple[str, ...], liberties: Liberties) -> None:
    """Put constants for fields while annotations are there; those first that all reads agree on.

    What they rule out may hold the only read of another field that cannot be told.
    """
    left = {**liberties.wishes, **liberties.fields}
    refused: dict[str, BundleError] = {}
    while left:
        shake(flat.tree, keep, strip=False)
        refused = fix_fields(flat.tree, left, flat.homes)
        fold_constants(flat.tree)
        if len(refused) == len(left):
            break
        left = {name: left[name] for name in refused}
    for name, error in refused.items():
        if name in liberties.fields:
            raise error
