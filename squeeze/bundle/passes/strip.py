"""Drop what describes the program and does nothing: docstrings, annotations of functions and locals."""

from __future__ import annotations

import ast
from typing import Any

from squeeze.bundle.analysis.purity import is_idle_hint
from squeeze.bundle.analysis.readers import Readers
from squeeze.bundle.load.scopes import FUNCTIONS, arguments
from squeeze.bundle.load.tree import drop_literals_, walk


def strip(tree: ast.Module, keep: frozenset[str] = frozenset()) -> None:
    """Drop docstrings and annotations in place where nothing can read them.

    keep: names of definitions whose annotations and docstrings stay.
    """
    readers = Readers(tree)
    future = any(isinstance(n, ast.ImportFrom) and n.module == "__future__" for n in tree.body)
    _Strip(readers, keep, future).visit(tree)
    ast.fix_missing_locations(tree)


class _Strip(ast.NodeTransformer):
    """Removal of what nothing reads. shown: whether something looks at the definitions around."""

    def __init__(self, readers: Readers, keep: frozenset[str], unevaluated: bool) -> None:
        self.readers, self.keep, self.unevaluated = readers, keep, unevaluated
        self.shown = False
        self.scope: ast.AST | None = None

    def visit(self, node: ast.AST) -> Any:
        if isinstance(node, ast.AnnAssign):
            return self._annotated(node)
        if isinstance(node, (*FUNCTIONS, ast.ClassDef)):
            outer, scope = self.shown, self.scope
            self.shown = outer or node.name in self.keep or self.readers.looks_at(node)
            self.scope = node
            self.generic_visit(node)
            if isinstance(node, FUNCTIONS) and not self._hints_stay():
                self._drop_hints(node)
            drop_literals_(node, self.shown or self.readers.every_doc)
            self.shown, self.scope = outer, scope
            return node
        self.generic_visit(node)
        drop_literals_(node, self.readers.every_doc or self.readers.module_doc)
        return node

    def _hints_stay(self) -> bool:
        return self.shown or self.readers.every_hint

    def _annotated(self, node: ast.AnnAssign) -> Any:
        """Return an assignment without its annotation; in a class it makes fields, and stays."""
        self.generic_visit(node)
        local = isinstance(self.scope, FUNCTIONS) and isinstance(node.target, ast.Name)
        idle = local or self.unevaluated or is_idle_hint(node.annotation)
        if isinstance(self.scope, ast.ClassDef) or self._hints_stay() or not idle:
            return node
        if node.value is None:
            return self._declared(node)
        return ast.copy_location(ast.Assign([node.target], node.value), node)

    def _declared(self, node: ast.AnnAssign) -> ast.stmt | None:
        """Return what says that a name is local where that is all an annotation says."""
        if not isinstance(self.scope, FUNCTIONS) or not isinstance(node.target, ast.Name):
            return None
        uses = [n for n in walk(self.scope) if getattr(n, "id", "") == node.target.id]
        return (
            node
            if len(uses) > 1 and not any(_binds(n) for n in uses if n is not node.target)
            else None
        )

    def _drop_hints(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        for arg in arguments(node.args):
            if self._is_idle(arg.annotation):
                arg.annotation = None
        if self._is_idle(node.returns):
            node.returns = None

    def _is_idle(self, hint: ast.expr | None) -> bool:
        return hint is None or self.unevaluated or is_idle_hint(hint)


def _binds(node: ast.AST) -> bool:
    return isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
