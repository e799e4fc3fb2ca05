"""Resolve entries of constant tables, and drop tests for classes of which no instance is made."""

from __future__ import annotations

import ast
from typing import Any

from squeeze.bundle.analysis.effects import Effects
from squeeze.bundle.load.fold import UNKNOWN, value_of
from squeeze.bundle.load.names import nested_names
from squeeze.bundle.load.scopes import module_uses
from squeeze.bundle.load.tree import children, walk


def settle_entries(tree: ast.Module, keep: tuple[str, ...] = ()) -> None:
    """Resolve, in place, `TABLE["key"]` of tables that never change, and tests for unmade classes.

    keep: names that somebody else may set, or make instances of
    """
    uses = [use for use in module_uses(tree) if isinstance(use.node, ast.Name)]
    stores = [use.name for use in module_uses(tree) if use.stores or use.index is not None]
    parents = {id(child): node for node in walk(tree) for child in children(node)}
    hidden = nested_names(tree) | set(keep)
    tables = {}
    for node in tree.body:
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Dict):
            name = node.targets[0].id if isinstance(node.targets[0], ast.Name) else ""
            only_read = all(
                isinstance(parent := parents.get(id(use.node)), ast.Subscript)
                and parent.value is use.node
                and isinstance(parent.ctx, ast.Load)
                for use in uses
                if use.name == name and not use.stores
            )
            single = stores.count(name) == 1 and len(node.targets) == 1 and name not in keep
            if name and single and only_read:
                tables[name] = _entries(node.value, stores, hidden)
    _Lookup(tables, {id(u.node) for u in uses}).visit(tree)
    _Kinds(Effects(tree, keep), _unmade(tree, keep)).visit(tree)
    ast.fix_missing_locations(tree)


def _entries(table: ast.Dict, stores: list[str], hidden: set[str]) -> dict[Any, str]:
    """Return the entries of a table whose values are names bound once, none of those hidden."""
    return {
        value_of(key): value.id
        for key, value in zip(table.keys, table.values, strict=True)
        if key is not None
        and isinstance(value_of(key), str | int)
        and isinstance(value, ast.Name)
        and stores.count(value.id) == 1
        and value.id not in hidden
    }


class _Lookup(ast.NodeTransformer):
    def __init__(self, tables: dict[str, dict[Any, str]], of_module: set[int]) -> None:
        self.tables, self.of_module = tables, of_module

    def visit_Subscript(self, node: ast.Subscript) -> Any:
        self.generic_visit(node)
        if isinstance(node.value, ast.Name) and id(node.value) in self.of_module:
            key = value_of(node.slice)
            entries = self.tables.get(node.value.id, {})
            if key is not UNKNOWN and isinstance(key, str | int) and key in entries:
                return ast.copy_location(ast.Name(entries[key], ast.Load()), node)
        return node


def _unmade(tree: ast.Module, keep: tuple[str, ...]) -> set[str]:
    """Return top-level classes that are only asked for, `isinstance(x, Class)`, or bases of such.

    keep: names of those that somebody else may make
    """
    asked = {id(part) for node in walk(tree) if _asks(node) for part in walk(node.args[1])}
    classes = {node.name: node for node in tree.body if isinstance(node, ast.ClassDef)}
    unmade = set(classes) - set(keep)
    while True:
        bases = {id(base) for name in unmade for base in classes[name].bases}
        made = {
            node.id
            for node in walk(tree)
            if isinstance(node, ast.Name) and node.id in unmade and id(node) not in asked | bases
        }
        made |= {name for name in unmade if classes[name].decorator_list or classes[name].keywords}
        if not made & unmade:
            return unmade
        unmade -= made


def _asks(node: ast.AST) -> bool:
    return (
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id == "isinstance"
        and len(node.args) == 2
    )


class _Kinds(ast.NodeTransformer):
    def __init__(self, effects: Effects, unmade: set[str]) -> None:
        self.effects, self.unmade = effects, unmade

    def visit_Call(self, node: ast.Call) -> Any:
        self.generic_visit(node)
        kind = node.args[1] if _asks(node) else None
        if isinstance(kind, ast.Name) and kind.id in self.unmade:
            is_harmless = self.effects.harmless(node.args[0])
            return ast.copy_location(ast.Constant(False), node) if is_harmless else node
        return node
