"""Syntax trees gone through as `ast.walk` does, several times as fast: most of bundling is that."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import Any

# Fields that hold no nodes with code of their own: names, contexts, operators.
LEAVES = frozenset(
    "asname attr conversion ctx id is_async kind level module n op ops rest s simple tag "
    "type_comment".split()
)
# Fields that are such in these nodes only.
OWN_LEAVES: dict[type[ast.AST], frozenset[str]] = {
    ast.Constant: frozenset(("value",)),
    ast.MatchSingleton: frozenset(("value",)),
    ast.Global: frozenset(("names",)),
    ast.Nonlocal: frozenset(("names",)),
}
DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
_fields: dict[type[ast.AST], tuple[str, ...]] = {}  # that may hold nodes, by class


def children(node: ast.AST) -> list[Any]:
    """Return the nodes right below a node, contexts and operators left out."""
    kind = node.__class__
    names = _fields.get(kind)
    if names is None:
        leaves = LEAVES | OWN_LEAVES.get(kind, frozenset())
        names = _fields[kind] = tuple(name for name in kind._fields if name not in leaves)
    below: list[Any] = []
    for name in names:
        value = getattr(node, name, None)
        if value.__class__ is list:
            below += [part for part in value if isinstance(part, ast.AST)]
        elif isinstance(value, ast.AST):
            below.append(value)
    return below


def walk(node: ast.AST) -> Iterator[Any]:
    """Yield a node and all below it, in the order of `ast.walk`."""
    nodes = [node]
    for node in nodes:  # grows meanwhile
        nodes += children(node)
        yield node


def plain_names(tree: ast.AST) -> set[str]:
    """Return the names that code reads or binds, without attributes."""
    return {node.id for node in walk(tree) if isinstance(node, ast.Name)}


def drop_idle_strings_(tree: ast.Module) -> None:
    """Drop strings that stand as statements and are no docstrings, which they would become in time."""
    for node in walk(tree):
        for name in ("body", "orelse", "finalbody"):
            block = getattr(node, name, None)
            if isinstance(block, list) and any(map(_is_string, block)):
                first = 1 if name == "body" and isinstance(node, DOCUMENTED) else 0
                left = block[:first] + [s for s in block[first:] if not _is_string(s)]
                block[:] = left or ([] if name == "orelse" else [ast.Pass()])


def _is_string(node: ast.AST) -> bool:
    return (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    )
