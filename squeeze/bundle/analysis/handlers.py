"""Which exceptions of a flat program are part of what it does: those that something catches and lives.

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

ALL = frozenset(("Exception", "BaseException"))


@dataclass
class Guard:
    """What a handler catches (names of classes; None: anything) and the raises that it may see."""

    caught: frozenset[str] | None
    body: list[ast.stmt]
    seen: set[int] = field(default_factory=set)  # ids of raise and assert statements


@dataclass(frozen=True)
class _Summary:
    """Names that code mentions, ids of its raises, and whether it calls what is not known by name."""

    names: set[str]
    raises: set[int]
    unknown: bool


class Handlers:
    """Answers whether a raise is caught by a handler that lets the program go on."""

    def __init__(self, tree: ast.Module) -> None:
        self.classes = {n.name: n for n in ast.walk(tree) if isinstance(n, ast.ClassDef)}
        self.named: dict[str, list[ast.AST]] = {}
        self.outside = set(import_origins(tree)) | set(dir(builtins))
        self.implicit: list[ast.AST] = []
        for node in ast.walk(tree):
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
        found = list(_guards(self._tree))
        for guard in found:
            self._follow(guard)
        return found

    def sees(self, statement: ast.stmt, kind: str) -> bool:
        """Whether a statement that raises an exception of a class is seen by one of the guards."""
        return any(
            id(statement) in guard.seen
            and (guard.caught is None or self._is_any(kind, guard.caught))
            for guard in self.guards
        )

    def family(self, name: str) -> set[str]:
        """A class of the program or builtin with all its bases, by name; "?" for what is not known."""
        if name in self.classes:
            found = {name}
            for base in self.classes[name].bases:
                found |= self.family(base.id if isinstance(base, ast.Name) else "?")
            return found
        known = getattr(builtins, name, None)
        return {c.__name__ for c in known.__mro__} if isinstance(known, type) else {"?"}

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
            guard.seen |= summary.raises
            names = summary.names | self.values if summary.unknown else summary.names
            for name in names - followed:
                queue += self.named.get(name, [])
            followed |= names

    def _summary(self, node: ast.AST) -> _Summary:
        if id(node) not in self._summaries:
            parts = list(ast.walk(node))
            self._summaries[id(node)] = _Summary(
                {p.id if isinstance(p, ast.Name) else p.attr for p in parts
                 if isinstance(p, ast.Name | ast.Attribute)},
                {id(p) for p in parts if isinstance(p, ast.Raise | ast.Assert)},
                any(isinstance(p, ast.Yield | ast.YieldFrom | ast.Call) and self._unknown(p)
                    for p in parts),
            )  # fmt: skip
        return self._summaries[id(node)]

    def _unknown(self, node: ast.expr) -> bool:
        """A call of something that is not known by name, or a `yield`, after which anything runs."""
        if not isinstance(node, ast.Call):
            return True
        if isinstance(node.func, ast.Name):
            return node.func.id not in self.named and node.func.id not in self.outside
        return not isinstance(node.func, ast.Attribute)


def _used_as_values(tree: ast.Module) -> set[str]:
    """Names and attributes that stand anywhere but where they are called."""
    called = {id(n.func) for n in ast.walk(tree) if isinstance(n, ast.Call)}
    found = set()
    for node in ast.walk(tree):
        if id(node) not in called:
            if isinstance(node, ast.Name):
                found.add(node.id)
            elif isinstance(node, ast.Attribute):
                found.add(node.attr)
    return found


def _guards(tree: ast.Module) -> Iterator[Guard]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Try | ast.TryStar):
            for handler in node.handlers:
                if not always_raises(handler.body):
                    yield Guard(_caught(handler.type), node.body)
        elif isinstance(node, ast.With | ast.AsyncWith):
            for item in node.items:
                if isinstance(item.context_expr, ast.Call):
                    call = item.context_expr
                    if isinstance(call.func, ast.Name | ast.Attribute):
                        name = getattr(call.func, "id", getattr(call.func, "attr", ""))
                        if name == "suppress":
                            yield Guard(_caught(ast.Tuple(call.args, ast.Load())), node.body)


def _caught(node: ast.expr | None) -> frozenset[str] | None:
    """Names of the classes in an `except`; None when it catches anything."""
    if node is None:
        return None
    parts = node.elts if isinstance(node, ast.Tuple) else [node]
    names = frozenset(
        part.id if isinstance(part, ast.Name) else getattr(part, "attr", "?") for part in parts
    )
    return None if names & ALL else names


def always_raises(block: list[ast.stmt]) -> bool:
    """Whether a block of statements can only end by raising."""
    for node in block:
        if isinstance(node, ast.Raise):
            return True
        if isinstance(node, ast.Return | ast.Continue | ast.Break | ast.Pass):
            return False
        if (
            isinstance(node, ast.If) and node.orelse
            and always_raises(node.body) and always_raises(node.orelse)
        ):  # fmt: skip
            return True
        if any(isinstance(n, ast.Return | ast.Continue | ast.Break) for n in ast.walk(node)):
            return False
    return False
