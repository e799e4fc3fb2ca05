"""Names of a program that may be printed, or found by their text: they stay as they are."""

from __future__ import annotations

import ast
from typing import Any

from squeeze.bundle.analysis.readers import Readers, look_ups
from squeeze.bundle.emit.naming import Shown
from squeeze.bundle.load.flatten import Flat
from squeeze.bundle.load.hints import has_hints, make_texts, names_in_texts
from squeeze.bundle.load.imports import takes_future_annotations
from squeeze.bundle.load.scopes import FUNCTIONS, TYPE_ALIASES, module_uses
from squeeze.bundle.load.tree import plain_names, walk
from squeeze.bundle.passes.itself import SOURCE_TEXT

# Calls that do not show the class they are given.
ASKING = frozenset(("isinstance", "issubclass", "super"))
SHOWING = frozenset(("__class__", "__mro__", "mro"))


def visible_names(tree: ast.Module, classes: bool, keep: tuple[str, ...] = ()) -> Shown:
    """Return names that may be printed; those of functions only if something reads names.

    keep: names of definitions that may be called from outside, by what their parameters are called.
    classes: whether those of classes stay, which show in a `repr`, in errors and in pickles.
    """
    readers = Readers(tree)
    nodes: list[Any] = [node for node in walk(tree) if isinstance(node, TYPE_ALIASES)]
    if readers.names:
        nodes += [n for n in walk(tree) if isinstance(n, (*FUNCTIONS, ast.ClassDef))]
    elif classes:
        nodes += _visible_classes(tree)
    if classes:  # those of functions show in the names of classes inside
        nodes += [f for f in walk(tree) if isinstance(f, FUNCTIONS) and _holds_class(f)]
    names = {getattr(node.name, "id", node.name) for node in nodes}
    names |= names_in_texts(tree) if readers.every_hint else set()
    return Shown(frozenset(names), frozenset(_shown_parameters(tree, readers, keep)))


def _shown_parameters(tree: ast.Module, readers: Readers, keep: tuple[str, ...]) -> set[str]:
    """Return the parameters of functions whose signature something may read, or call from outside."""
    shown: list[ast.AST] = [
        node
        for node in walk(tree)
        if isinstance(node, (*FUNCTIONS, ast.ClassDef)) and node.name in {*readers.given, *keep}
    ]
    if readers.every_hint:
        shown = [tree]
    return {part.arg for node in shown for part in walk(node) if isinstance(part, ast.arg)}


def _visible_classes(tree: ast.Module) -> list[ast.ClassDef]:
    """Return the classes whose names may be printed.

    Not those without bases and decorators that are only made, asked for, or read attributes of, in a
    program that asks nothing for its class.
    """
    classes = [n for n in walk(tree) if isinstance(n, ast.ClassDef) and n.name != SOURCE_TEXT]
    attributes = {node.attr for node in walk(tree) if isinstance(node, ast.Attribute)}
    hidden = set[int]()
    for node in walk(tree):
        if isinstance(node, ast.Attribute):
            hidden.add(id(node.value))
        elif isinstance(node, ast.ClassDef):
            hidden |= set(map(id, node.bases))
        elif isinstance(node, ast.Call):
            hidden.add(id(node.func))
            if getattr(node.func, "id", "") in ASKING:
                hidden |= {id(part) for value in node.args for part in walk(value)}
    names = [n for n in walk(tree) if isinstance(n, ast.Name) and id(n) not in hidden]
    shown = {node.id for node in names}
    asked = any(isinstance(n, ast.Name) and n.id == "type" for n in walk(tree))
    if asked or attributes & SHOWING:
        return classes
    return [n for n in classes if n.bases or n.decorator_list or n.name in shown]


def _holds_class(node: ast.AST) -> bool:
    return any(isinstance(part, ast.ClassDef) for part in walk(node))


def looked_up_names(flat: Flat) -> list[str]:
    """Return the names that stay if code in a text may say them: all of them."""
    tree = flat.tree
    names = {use.name for use in module_uses(tree)}
    if any(place.frames for place in look_ups(tree)):
        names |= {node.id for node in walk(tree) if isinstance(node, ast.Name)}
    for node in walk(tree):
        if isinstance(node, (*FUNCTIONS, ast.ClassDef)):
            names.add(node.name)
        elif isinstance(node, ast.arg):
            names.add(node.arg)
        elif isinstance(node, ast.Attribute):
            names.add(node.attr)
    return sorted(names)


def renamed_definitions(flat: Flat, shown: Shown) -> list[str]:
    """Return `file:line: name: why` of what shows its name, and has another one in the flat program."""
    return [
        f"{flat.where(node)}: {flat.homes[node.name][1]}: that name is another one's, too: in the "
        f"bundle it shows as {node.name}"
        for node in flat.tree.body
        if isinstance(node, (*FUNCTIONS, ast.ClassDef)) and node.name in shown.definitions
        if flat.homes.get(node.name, ("", node.name))[1] != node.name
    ]


def separate_hints(flat: Flat) -> None:
    """Leave annotations evaluated in modules that do not postpone them, where something may read them.

    `from __future__ import annotations` holds for a whole file: those of modules that have it become
    the texts that it makes of them, and it goes.
    """
    origins = flat.loading.origins
    statements = [*flat.tree.body, *(node for node in walk(flat.tree) if node in origins)]
    evaluated = {
        node
        for node in statements
        if node in origins and not takes_future_annotations(origins[node])
    }
    postponed = [n for n in flat.tree.body if getattr(n, "module", "") == "__future__"]
    if not (postponed and any(map(has_hints, evaluated)) and _reads_hints(flat.tree)):
        return
    for statement in dict.fromkeys(statements):
        if statement not in evaluated:
            make_texts(statement, origins)
    flat.tree.body = [statement for statement in flat.tree.body if statement not in postponed]


def _reads_hints(tree: ast.Module) -> bool:
    """Return whether something may read annotations, by `dataclasses.fields` among others."""
    words = {getattr(node, "attr", getattr(node, "name", "")) for node in walk(tree)}
    return Readers(tree).every_hint or {"fields", "type"} <= words | plain_names(tree)
