"""Branches that constant flags decide are cut before anything else looks at the code."""

from __future__ import annotations

import ast
from typing import Any

from squeeze.bundle.scopes import module_uses

UNKNOWN = object()


def fold(tree: ast.Module, constants: dict[str, object], module: str) -> ast.Module:
    """The tree with `if`, `while` and conditional expressions on known flags decided.

    constants: module-level names and what they are; wherever such a name is read, the value stands
    instead. Where `__name__` is compared, it is the module's: what only a script does goes.
    """
    for use in module_uses(tree):
        if use.name in constants and isinstance(use.node, ast.Name) and not use.stores:
            use.node._constant = constants[use.name]  # type: ignore[attr-defined]
        elif use.name == "__name__" and isinstance(use.node, ast.Name):
            use.node._module = module  # type: ignore[attr-defined]
    return ast.fix_missing_locations(_Fold().visit(tree))


def value_of(node: ast.expr) -> Any:
    """The constant an expression is known to be, or UNKNOWN."""
    if isinstance(node, ast.Constant):
        return node.value
    if hasattr(node, "_constant"):
        return node._constant
    if isinstance(node, ast.Attribute) and node.attr == "TYPE_CHECKING":
        return False
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        inner = value_of(node.operand)
        return UNKNOWN if inner is UNKNOWN else not inner
    if isinstance(node, ast.BoolOp):
        values = [value_of(part) for part in node.values]
        decided = isinstance(node.op, ast.Or)
        for (
            value
        ) in values:  # only a leading run of known values decides: the rest may have effects
            if value is UNKNOWN:
                return UNKNOWN
            if bool(value) is decided:
                return value
        return values[-1]
    if isinstance(node, ast.Compare) and len(node.ops) == 1:
        left, right = (
            getattr(side, "_module", None) or value_of(side)
            for side in (node.left, node.comparators[0])
        )
        if left is UNKNOWN or right is UNKNOWN:
            return UNKNOWN
        if isinstance(node.ops[0], ast.Eq):
            return left == right
        if isinstance(node.ops[0], ast.NotEq):
            return left != right
    return UNKNOWN


class Filling(ast.NodeTransformer):
    """Drops statements; a block that must hold one, and has none left, gets `pass`."""

    def generic_visit(self, node: ast.AST) -> ast.AST:
        super().generic_visit(node)
        if getattr(node, "body", None) == [] and not isinstance(node, ast.Module):
            node.body = [ast.Pass()]  # type: ignore[attr-defined]
        return node


class _Fold(Filling):
    def visit_If(self, node: ast.If) -> Any:
        value = value_of(node.test)
        if value is UNKNOWN:
            return self.generic_visit(node)
        kept = ast.Module(node.body if value else node.orelse, [])
        self.generic_visit(kept)
        return kept.body

    def visit_IfExp(self, node: ast.IfExp) -> Any:
        value = value_of(node.test)
        if value is UNKNOWN:
            return self.generic_visit(node)
        return self.visit(node.body if value else node.orelse)

    def visit_Name(self, node: ast.Name) -> Any:
        value: Any = getattr(node, "_constant", UNKNOWN)
        if value is UNKNOWN:
            return node
        return ast.copy_location(ast.Constant(value), node)
