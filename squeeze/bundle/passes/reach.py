"""Statements and methods that a program reaches from its statements with effects.

Statements, and methods of classes whose bases are known, are reached one by one: a method once its
class is and what has been reached reads an attribute of its name.
"""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, cast

from squeeze.bundle.analysis.attributes import attribute_words, has_known_bases
from squeeze.bundle.analysis.listing import Computed
from squeeze.bundle.analysis.purity import Purity
from squeeze.bundle.analysis.readers import Readers
from squeeze.bundle.load.hints import names_in_texts
from squeeze.bundle.load.loading import Loading
from squeeze.bundle.load.scopes import FUNCTIONS, bound_names, walk_scopes
from squeeze.bundle.load.tree import plain_names, walk

Method = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class Reads:
    """Names that one statement or method reads.

    names: of the module, and builtins. attributes: and whatever may be the name of one
    beginnings: of names of attributes that are computed; "" for any
    hinted: names in annotations that are texts
    """

    names: frozenset[str]
    attributes: frozenset[str]
    beginnings: frozenset[str]
    hinted: frozenset[str]


class Reached:
    """Statements and methods that a program reaches. keep: names of definitions that are reached.

    methods: by class, those that go unless they are reached
    """

    def __init__(
        self, tree: ast.Module, keep: set[str], loading: Loading, memory: dict[ast.AST, Reads]
    ) -> None:
        self._tree, self._loading, self._memory = tree, loading, memory
        self._computed = Computed(tree)
        self.methods = _optional_methods(tree)
        self._owners = {method: owner for owner, own in self.methods.items() for method in own}
        self._nodes = set[ast.AST]()
        self._queue: list[ast.AST] = []
        self._waiting: dict[str, list[Method]] = defaultdict(list)  # methods by name
        self._attributes, self._beginnings = set(keep), tuple[str, ...]()
        self._binders: dict[str, list[ast.stmt]] = defaultdict(list)
        self._effects: dict[str, list[ast.stmt]] = defaultdict(list)  # by module
        purity = Purity(tree)
        for statement in tree.body:
            names = bound_names([statement])[0]
            for name in names:
                self._binders[name].append(statement)
            if names & keep:
                self._queue.append(statement)
            if not (names and purity.only_binds(statement)):
                self._effects[loading.module_of(statement)].append(statement)
        self._load(loading.at_start())
        while self._queue:
            node = self._queue.pop()
            if node not in self._nodes:
                self._nodes.add(node)
                self._enter(node)

    def __contains__(self, node: ast.AST) -> bool:
        return node in self._nodes

    def names(self, reads: Reads) -> frozenset[str]:
        """Return the names that count as read: those in texts if something evaluates annotations."""
        return reads.names | reads.hinted if reads.hinted and self._evaluates else reads.names

    @cached_property
    def _evaluates(self) -> bool:
        return Readers(self._tree).every_hint

    def _load(self, modules: Iterable[str]) -> None:
        for module in modules:
            self._queue += self._effects.pop(module, [])

    def _enter(self, node: ast.AST) -> None:
        """Reach what a statement or method reads."""
        if node not in self._memory:
            self._memory[node] = self._reads(node)
        reads = self._memory[node]
        for name in self.names(reads):
            self._queue += self._binders.get(name, [])
        if isinstance(node, ast.stmt) and node not in self._owners:
            self._load(self._loading.by(node))
        for method in self.methods.get(node, ()):
            if method.name in self._attributes or method.name.startswith(self._beginnings):
                self._queue.append(method)
            else:
                self._waiting[method.name].append(method)
        for name in reads.attributes - self._attributes:
            self._attributes.add(name)
            self._queue += self._waiting.pop(name, [])
        if not reads.beginnings <= set(self._beginnings):
            self._beginnings += tuple(reads.beginnings)
            for name in [n for n in self._waiting if n.startswith(self._beginnings)]:
                self._queue += self._waiting.pop(name)

    def _reads(self, node: ast.AST) -> Reads:
        """Return what a statement reads, without the methods that go, or what such a method does."""
        without = set(self.methods.get(node, ()))
        alone = node
        if isinstance(node, ast.ClassDef):
            alone = _shell(node, [child for child in node.body if child not in without])
        elif node in self._owners:
            alone = ast.copy_location(_class_of(node), node)
        names = set[str]()
        walk_scopes([alone], lambda use: names.add(use.name))
        attributes = _attribute_names(alone)
        if isinstance(node, ast.ClassDef):  # a class body reads its own names plainly
            for child in alone.body:  # type: ignore[attr-defined]
                attributes |= plain_names(child)
        elif node in self._owners:
            for wrapper in node.decorator_list:
                attributes |= plain_names(wrapper)
        beginnings = map(self._computed.beginning, walk(alone))
        return Reads(
            frozenset(names),
            frozenset(attributes),
            frozenset(b for b in beginnings if b is not None),
            frozenset(names_in_texts(alone)),
        )


def _shell(node: ast.ClassDef, body: list[ast.stmt]) -> ast.ClassDef:
    """Return a class with another body."""
    fields: dict[str, Any] = {name: getattr(node, name, None) for name in node._fields}
    return ast.copy_location(ast.ClassDef(**{**fields, "body": body or [ast.Pass()]}), node)


def _class_of(method: ast.AST) -> ast.ClassDef:
    """Return a class that holds a method alone."""
    node = ast.ClassDef(
        name="", bases=[], keywords=[], body=[cast(ast.stmt, method)], decorator_list=[]
    )
    if "type_params" in node._fields:
        vars(node)["type_params"] = []
    return node


def _optional_methods(tree: ast.Module) -> dict[ast.AST, list[Method]]:
    """Return the methods that nobody outside the program can call, by class."""
    classes = {node.name: node for node in tree.body if isinstance(node, ast.ClassDef)}
    return {
        node: [
            child
            for child in node.body
            if isinstance(child, FUNCTIONS)
            and not (child.name.startswith("__") and child.name.endswith("__"))
        ]
        for node in classes.values()
        if has_known_bases(node, classes) and not _is_asked_for(node)
    }


def _is_asked_for(node: ast.ClassDef) -> bool:
    """Return whether `isinstance` asks objects for all that a class lists: a protocol at run time."""
    names = [getattr(part, "attr", getattr(part, "id", "")) for part in node.decorator_list]
    return "runtime_checkable" in names


def _attribute_names(tree: ast.AST) -> set[str]:
    """Return the names of attributes that code may read."""
    names: set[str] = set()
    for node in walk(tree):
        if isinstance(node, ast.Attribute):
            names.add(node.attr)
        elif isinstance(node, ast.keyword) and node.arg:
            names.add(node.arg)
        elif isinstance(node, ast.ClassDef) and _is_asked_for(node):
            names |= {child.name for child in node.body if isinstance(child, FUNCTIONS)}
    return names | attribute_words(tree)
