"""Exceptions that are part of what a program does: those that it catches and goes on after.

A handler that cannot end but by raising decides nothing. Any other is looked at with everything that
what it guards may run, followed by names: functions and methods that are mentioned, and, as soon as
something is called that is not known by name, every function that is anywhere used as a value.
"""

from __future__ import annotations

import ast
import builtins
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property

from squeeze.bundle.analysis.effects import import_origins
from squeeze.bundle.load.scopes import FUNCTIONS
from squeeze.bundle.load.tree import last_name, walk

ALL = frozenset(("Exception", "BaseException"))


@dataclass
class Guard:
    """A handler with the block it guards.

    caught: names of the classes it catches; None for any. raises: ids of the raise and assert statements
    that may reach it.
    """

    caught: frozenset[str] | None
    body: list[ast.stmt]
    raises: set[int] = field(default_factory=set)


@dataclass(frozen=True)
class _Summary:
    """Names that code mentions, ids of its raises, and whether it calls what is not known by name."""

    names: set[str]
    raises: set[int]
    unknown: bool


class Handlers:
    """Handlers of a flat program that let it go on, and the raises that may reach them."""

    def __init__(self, tree: ast.Module) -> None:
        self.classes = {n.name: n for n in walk(tree) if isinstance(n, ast.ClassDef)}
        self.named: dict[str, list[ast.AST]] = {}
        self.outside = set(import_origins(tree)) | set(dir(builtins))
        self.implicit: list[ast.AST] = []
        for node in walk(tree):
            if isinstance(node, FUNCTIONS):
                self.named.setdefault(node.name, []).append(node)
                if node.name.startswith("__") or node.name == "forward":
                    self.implicit.append(node)
            elif isinstance(node, ast.ClassDef):
                self.named.setdefault(node.name, []).append(node)
        self.values = _used_as_values(tree)
        self._tree = tree
        self._summaries: dict[int, _Summary] = {}

    @cached_property
    def guards(self) -> list[Guard]:
        """Handlers that let the program go on, with the raises they may see."""
        guards = list(_guards(self._tree))
        for guard in guards:
            self._follow(guard)
        return guards

    def sees(self, statement: ast.stmt, kind: str) -> bool:
        """Return whether a statement that raises an exception of class `kind` may reach a guard."""
        return any(
            id(statement) in guard.raises
            and (guard.caught is None or self._is_any(kind, guard.caught))
            for guard in self.guards
        )

    def family(self, name: str) -> set[str]:
        """Return the names of a class and of all its bases; "?" stands for unknown ones."""
        if name in self.classes:
            names = {name}
            for base in self.classes[name].bases:
                names |= self.family(base.id if isinstance(base, ast.Name) else "?")
            return names
        builtin = getattr(builtins, name, None)
        return {c.__name__ for c in builtin.__mro__} if isinstance(builtin, type) else {"?"}

    def _is_any(self, kind: str, caught: frozenset[str]) -> bool:
        family = self.family(kind)
        return "?" in family or "?" in caught or bool(family & caught)

    def _follow(self, guard: Guard) -> None:
        """Mark every raise in what a guarded block may run."""
        queue: list[ast.AST] = [*guard.body, *self.implicit]
        done: set[int] = set()
        followed: set[str] = set()
        while queue:
            node = queue.pop()
            if id(node) in done:
                continue
            done.add(id(node))
            summary = self._summary(node)
            guard.raises |= summary.raises
            names = summary.names | self.values if summary.unknown else summary.names
            for name in names - followed:
                queue += self.named.get(name, [])
            followed |= names

    def _summary(self, node: ast.AST) -> _Summary:
        if id(node) not in self._summaries:
            parts = list(walk(node))
            self._summaries[id(node)] = _Summary(
                {
                    p.id if isinstance(p, ast.Name) else p.attr
                    for p in parts
                    if isinstance(p, ast.Name | ast.Attribute)
                },
                {id(p) for p in parts if isinstance(p, ast.Raise | ast.Assert)},
                any(
                    isinstance(p, ast.Yield | ast.YieldFrom | ast.Call) and self._unknown(p)
                    for p in parts
                ),
            )
        return self._summaries[id(node)]

    def _unknown(self, node: ast.expr) -> bool:
        """Return whether anything may run: a call of what has no known name, or a `yield`."""
        if not isinstance(node, ast.Call):
            return True
        if isinstance(node.func, ast.Name):
            return node.func.id not in self.named and node.func.id not in self.outside
        return not isinstance(node.func, ast.Attribute)


def _used_as_values(tree: ast.Module) -> set[str]:
    """Return names and attributes that stand anywhere but where they are called."""
    called = {id(n.func) for n in walk(tree) if isinstance(n, ast.Call)}
    names = set()
    for node in walk(tree):
        if id(node) not in called:
            if isinstance(node, ast.Name):
                names.add(node.id)
            elif isinstance(node, ast.Attribute):
                names.add(node.attr)
    return names


def _guards(tree: ast.Module) -> Iterator[Guard]:
    for node in walk(tree):
        if isinstance(node, ast.Try | ast.TryStar):
            for handler in node.handlers:
                if not always_raises(handler.body):
                    yield Guard(_caught(handler.type), node.body)
        elif isinstance(node, ast.With | ast.AsyncWith):
            for item in node.items:
                call = item.context_expr
                if isinstance(call, ast.Call) and last_name(call.func) == "suppress":
                    yield Guard(_caught(ast.Tuple(call.args, ast.Load())), node.body)


def _caught(node: ast.expr | None) -> frozenset[str] | None:
    """Return the names of the classes in an `except`; None when it catches anything."""
    if node is None:
        return None
    parts = node.elts if isinstance(node, ast.Tuple) else [node]
    names = frozenset(last_name(part) or "?" for part in parts)
    return None if names & ALL else names


def always_raises(block: list[ast.stmt]) -> bool:
    """Return whether a block of statements can only end by raising."""
    for node in block:
        if isinstance(node, ast.Raise):
            return True
        if isinstance(node, ast.Return | ast.Continue | ast.Break | ast.Pass):
            return False
        if (
            isinstance(node, ast.If)
            and node.orelse
            and always_raises(node.body)
            and always_raises(node.orelse)
        ):
            return True
        if any(isinstance(n, ast.Return | ast.Continue | ast.Break) for n in walk(node)):
            return False
    return False
