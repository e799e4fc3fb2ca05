"""Syntax trees gone through as `ast.walk` does, several times as fast: most of bundling is that."""

from __future__ import annotations

import ast
import warnings
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
    ast.arg: frozenset(("arg",)),
    ast.keyword: frozenset(("arg",)),
    **dict.fromkeys(
        (ast.AsyncFunctionDef, ast.ClassDef, ast.FunctionDef, ast.ExceptHandler, ast.alias),
        frozenset(("name",)),
    ),
}
MIXED = frozenset(("keys", "kw_defaults", "kwd_attrs"))  # lists that hold more than nodes
BLOCKS = ("body", "orelse", "finalbody")  # fields that hold statements
DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
_fields: dict[type[ast.AST], tuple[str, ...]] = {}  # that may hold nodes, by class


def parsed(source: str, file: str) -> ast.Module:
    """Return the tree of a source; escapes that Python does not know warn when it runs, not here."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return ast.parse(source, file)


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
            mixed = name in MIXED
            below += [part for part in value if isinstance(part, ast.AST)] if mixed else value
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


def last_name(node: ast.AST) -> str:
    """Return the name of a variable or an attribute, the last of dotted ones; "" for all else."""
    return node.id if isinstance(node, ast.Name) else getattr(node, "attr", "")


def spelled(tree: ast.AST) -> set[str]:
    """Return all names that code spells: of variables, attributes, definitions, parameters, imports."""
    fields = ("id", "attr", "name", "arg", "asname", "rest")
    words = {getattr(node, field, None) for node in walk(tree) for field in fields}
    return {word for word in words if isinstance(word, str)}


def is_docstring(node: ast.stmt) -> bool:
    """Return whether a statement is a literal that nothing reads but `__doc__`."""
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def drop_literals_(node: ast.AST, documented: bool = True) -> None:
    """Drop literals from the blocks of a node; a block that must hold something gets `pass`.

    documented: keep the docstring
    """
    for name in BLOCKS:
        block = getattr(node, name, None)
        if not isinstance(block, list):
            continue
        first = documented and name == "body" and isinstance(node, DOCUMENTED)
        statements = [
            child for at, child in enumerate(block) if not is_docstring(child) or (first and not at)
        ]
        required = name == "body" and not isinstance(node, ast.Module)
        required |= name == "finalbody" and not getattr(node, "handlers", True)
        setattr(node, name, statements or ([ast.Pass()] if required else []))
