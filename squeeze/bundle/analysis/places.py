"""Where the nodes of a tree are, so that one can be put in the place of another."""

from __future__ import annotations

import ast
from dataclasses import dataclass
from typing import Any

from squeeze.bundle.analysis.readers import LOOKING_UP, SCOPES
from squeeze.bundle.load.scopes import FUNCTIONS
from squeeze.bundle.load.tree import BLOCKS, children, walk


@dataclass(frozen=True)
class Binding:
    """An assignment of a value to a name, which may be one of several side by side."""

    statement: ast.Assign
    value: ast.expr
    at: int | None  # among those side by side


class Places:
    """Where the nodes of a tree are."""

    def __init__(self, tree: ast.Module) -> None:
        self._parents: dict[int, ast.AST] = {
            id(child): node for node in walk(tree) for child in children(node)
        }
        self.inspecting = {
            id(function)
            for function in walk(tree)
            if isinstance(function, (*FUNCTIONS, ast.Lambda))
            and any(isinstance(n, ast.Name) and n.id in LOOKING_UP | SCOPES for n in walk(function))
        }

    def parent(self, node: ast.AST) -> ast.AST:
        """Return the node right above."""
        return self._parents[id(node)]

    def replace(self, node: ast.AST, other: ast.AST) -> None:
        """Put another node where one is."""
        parent = self._parents[id(node)]
        for name, value in ast.iter_fields(parent):
            if value is node:
                setattr(parent, name, other)
            elif isinstance(value, list):
                value[:] = [other if part is node else part for part in value]
        self._parents[id(other)] = parent
        for above in walk(other):
            self._parents |= {id(child): above for child in children(above)}

    def in_text(self, node: ast.AST) -> bool:
        """Return whether a node is part of an f-string."""
        while not isinstance(node, ast.stmt):
            node = self._parents[id(node)]
            if isinstance(node, ast.JoinedStr):
                return True
        return False

    def block(self, statement: ast.stmt) -> list[ast.stmt]:
        """Return the block that a statement stands in."""
        parent: Any = self.parent(statement)
        for name in BLOCKS:
            block = getattr(parent, name, None)
            if isinstance(block, list) and any(part is statement for part in block):
                return block
        return []

    def binding(self, node: ast.expr) -> Binding | None:
        """Return the plain assignment that binds a name or attribute, None for any other."""
        target: ast.AST = node
        parent = self.parent(target)
        at = None
        if isinstance(parent, ast.Tuple):
            at = parent.elts.index(node)
            target, parent = parent, self.parent(parent)
        if not isinstance(parent, ast.Assign) or len(parent.targets) > 1:
            return None
        if at is None:
            return Binding(parent, parent.value, None)
        several = parent.value
        same = isinstance(several, ast.Tuple) and len(several.elts) == len(target.elts)  # type: ignore[attr-defined]
        if not same or any(isinstance(part, ast.Starred) for part in (*several.elts, *target.elts)):  # type: ignore[attr-defined]
            return None
        return Binding(parent, several.elts[at], at)  # type: ignore[attr-defined]

    def drop(self, binding: Binding) -> None:
        """Drop an assignment, or one of those side by side."""
        statement = binding.statement
        if binding.at is None:
            block = self.block(statement)
            at = next(n for n, part in enumerate(block) if part is statement)
            block[at : at + 1] = [] if len(block) > 1 else [ast.Pass()]
            return
        targets: Any = statement.targets[0]
        values: Any = statement.value
        del targets.elts[binding.at], values.elts[binding.at]
        if len(targets.elts) == 1:
            statement.targets, statement.value = targets.elts, values.elts[0]
            for part in (statement.targets[0], statement.value):
                self._parents[id(part)] = statement
