"""The original module and name behind each byte of a bundle."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from squeeze.bundle.cost import IMPORTS, Part, costs, parts, pieces
from squeeze.bundle.load.flatten import Flat
from squeeze.bundle.load.scopes import bound_names


def attribute(flat: Flat, code: str, total: int) -> tuple[Part, ...]:
    """Return shares of `total` bytes by original module and name; hoisted literals have their own row.

    code: the minified program, whose statements are told apart by their order, which the minifier keeps.
    """
    encoded = code.encode()
    tree = ast.parse(code)
    labels = _labels(flat, tree)
    code_pieces = pieces(encoded, tree)
    rows = []
    for piece, cost in zip(code_pieces, costs(encoded, code_pieces), strict=True):
        default = "(imports)" if isinstance(piece.statement, IMPORTS) else "(literals)"
        module, name = labels.get(piece.statement, ("(bundle)", default))
        if isinstance(piece.statement, ast.ClassDef) and "." in piece.name:
            name += "." + piece.name.partition(".")[2]
        rows.append((module, name, cost, piece.end - piece.start))
    return parts(rows or [("(bundle)", "(nothing)", 1, 0)], total)


def _labels(flat: Flat, tree: ast.Module) -> dict[ast.stmt, tuple[str, str]]:
    """Return (module, name) of the minified statements; none when they do not match the flat ones."""
    originals = [(name, s) for name, s in _definitions(flat.tree) if not isinstance(s, IMPORTS)]
    statements = [statement for statement in tree.body if not isinstance(statement, IMPORTS)]
    hoisted = len(statements) - len(originals)
    if hoisted < 0 or any(
        type(statement) is not type(original)
        for statement, (_, original) in zip(statements[hoisted:], originals, strict=True)
    ):
        return {}
    labels = {}
    for statement, (name, original) in zip(statements[hoisted:], originals, strict=True):
        default = (flat.loading.module_of(original) or "__main__", "")
        module, own_name = flat.homes.get(name, default)
        labels[statement] = (module, own_name or "(statements)")
    return labels


def _definitions(tree: ast.Module) -> Iterator[tuple[str, ast.stmt]]:
    """Yield (name, statement) of all that the tree binds at its top level, the rest under ""."""
    for statement in tree.body:
        names = sorted(bound_names([statement])[0])
        yield (names[0] if names else ""), statement
