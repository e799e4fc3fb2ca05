"""Calls of an object's methods that do nothing go, and so do the blocks that such a method guards."""

from __future__ import annotations

import ast
from typing import Any

from squeeze.bundle.analysis.effects import Effects
from squeeze.bundle.analysis.readers import look_ups
from squeeze.bundle.analysis.variables import Variable, variables_of
from squeeze.bundle.load.scopes import FUNCTIONS
from squeeze.bundle.load.tree import last_name, walk


def without_idle_objects(tree: ast.Module, keep: tuple[str, ...] = ()) -> None:
    """Drop, in place, calls of empty methods of an object of the module that is made without arguments.

    A context manager of it that only yields is no more than its block. keep: names of objects, classes
    and methods that somebody else may set or override.
    """
    objects = {} if look_ups(tree) else _objects(tree, keep)
    if objects:
        _Idle(Effects(tree, keep), objects).visit(tree)
        ast.fix_missing_locations(tree)


def _objects(tree: ast.Module, keep: tuple[str, ...]) -> dict[int, tuple[str, ast.ClassDef]]:
    """Return the name and class of single objects, by the nodes that read them."""
    variables = variables_of(tree)
    of_module = {v.name: v for v in variables if isinstance(v.scope, ast.Module)}
    classes = {node.name: node for node in tree.body if isinstance(node, ast.ClassDef)}
    single = {}
    for statement in tree.body:
        if not isinstance(statement, ast.Assign) or not isinstance(statement.value, ast.Call):
            continue
        target, call = statement.targets[0], statement.value
        if isinstance(target, ast.Name) and isinstance(call.func, ast.Name):
            variable, kind = of_module[target.id], classes.get(call.func.id)
            if (
                kind is not None
                and not {target.id, kind.name}.intersection(keep)
                and _is_plain(kind)
                and variable.once
                and _only_methods(variable, tree)
            ):
                single.update({id(read): (target.id, kind) for read in variable.reads})
    return single


def _is_plain(node: ast.ClassDef) -> bool:
    """Return whether a class inherits from nothing and holds plain methods alone."""
    return not (node.bases or node.keywords or node.decorator_list) and all(
        isinstance(child, FUNCTIONS) for child in node.body
    )


def _only_methods(variable: Variable, tree: ast.Module) -> bool:
    """Return whether nothing sets attributes of an object."""
    reads = {id(read) for read in variable.reads}
    return not any(
        isinstance(node, ast.Attribute)
        and not isinstance(node.ctx, ast.Load)
        and id(node.value) in reads
        for node in walk(tree)
    )


class _Idle(ast.NodeTransformer):
    def __init__(self, effects: Effects, objects: dict[int, tuple[str, ast.ClassDef]]) -> None:
        self.effects, self.objects = effects, objects

    def visit_Expr(self, node: ast.Expr) -> Any:
        method = self._method(node.value)
        plain = method is not None and not method.decorator_list
        if plain and all(isinstance(child, ast.Pass) for child in method.body):
            return ast.Pass()
        return self.generic_visit(node)

    def visit_With(self, node: ast.With) -> Any:
        self.generic_visit(node)
        if len(node.items) != 1:
            return node
        (item,) = node.items
        method = self._method(item.context_expr)
        if method is None or [*map(last_name, method.decorator_list)] != ["contextmanager"]:
            return node
        gives = _yielded(method)
        if gives is None:
            return node
        call: Any = item.context_expr
        if item.optional_vars is None:
            return node.body
        value = call.func.value if gives == "self" else ast.Constant(None)
        return [ast.Assign([item.optional_vars], value), *node.body]

    def _method(self, node: ast.expr) -> Any:
        """Return the method that an expression calls on one of the objects, with harmless arguments."""
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
            return None
        if id(node.func.value) not in self.objects or node.func.attr in self.effects.keep:
            return None
        _, kind = self.objects[id(node.func.value)]
        values = [*node.args, *(word.value for word in node.keywords)]
        if not all(map(self.effects.harmless, values)):
            return None
        return next((child for child in kind.body if child.name == node.func.attr), None)  # type: ignore[attr-defined]


def _yielded(method: Any) -> str | None:
    """Return what a generator that only yields gives: "self", "" for nothing, None for any other."""
    (statement, *others) = method.body
    if others or not isinstance(statement, ast.Expr) or not isinstance(statement.value, ast.Yield):
        return None
    value = statement.value.value
    if value is None:
        return ""
    first = method.args.args[0].arg if method.args.args else None
    return "self" if isinstance(value, ast.Name) and value.id == first else None
