"""Drop what describes the program and does nothing: docstrings, annotations of functions and locals."""

from __future__ import annotations

import ast
from typing import Any

from squeeze.bundle.analysis.purity import is_docstring
from squeeze.bundle.load.scopes import FUNCTIONS, arguments

DOC_READERS = frozenset(("__doc__",))
HINT_READERS = frozenset(("__annotations__", "get_type_hints", "signature"))


def strip(tree: ast.Module) -> None:
    """Drop docstrings and annotations in place, each kind unless something in the tree reads it."""
    read = {getattr(node, "attr", getattr(node, "id", None)) for node in ast.walk(tree)}
    _Strip(docs=not read & DOC_READERS, hints=not read & HINT_READERS).visit(tree)
    ast.fix_missing_locations(tree)


class _Strip(ast.NodeTransformer):
    def __init__(self, docs: bool, hints: bool) -> None:
        self.docs, self.hints = docs, hints
        self.in_class = False

    def visit(self, node: ast.AST) -> Any:
        if isinstance(node, ast.AnnAssign) and self.hints and not self.in_class:
            self.generic_visit(node)
            if node.value is None:
                return None
            return ast.copy_location(ast.Assign([node.target], node.value), node)
        if isinstance(node, (*FUNCTIONS, ast.Lambda)):
            self._visit_inside(node, in_class=False)
            if self.hints:
                _drop_hints(node)
        elif isinstance(node, ast.ClassDef):
            self._visit_inside(node, in_class=True)
        else:
            self.generic_visit(node)
        self._drop_literals(node)
        return node

    def _visit_inside(self, node: ast.AST, in_class: bool) -> None:
        outer, self.in_class = self.in_class, in_class
        self.generic_visit(node)
        self.in_class = outer

    def _drop_literals(self, node: ast.AST) -> None:
        """Drop docstrings from the blocks of a node; a block that must hold something gets `pass`."""
        for name in ("body", "orelse", "finalbody"):
            block = getattr(node, name, None)
            if isinstance(block, list):
                statements = [child for child in block if not (self.docs and is_docstring(child))]
                required = name == "body" and not isinstance(node, ast.Module)
                setattr(node, name, statements or ([ast.Pass()] if required else []))


def _drop_hints(node: ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda) -> None:
    for arg in arguments(node.args):
        arg.annotation = None
    if not isinstance(node, ast.Lambda):
        node.returns = None
