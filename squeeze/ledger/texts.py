"""Texts that the expressions of a script stand for, as far as they are made of constants.

Nothing is run. A name stands for whatever its scope assigns to it, a parameter for its default, an
attribute for what classes and assignments give it, the variable of a loop for what the loop goes
through. What cannot be told is UNKNOWN, alone or as a part of a text.
"""

from __future__ import annotations

import ast
import itertools
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import PurePosixPath
from typing import Any

UNKNOWN = "\0"
MOST_VALUES = 256  # of one expression
MOST_BINDINGS = 64  # of one name
MOST_TEXT = 4096  # characters of one
LARGEST = 1 << 60
# Places of a template that a few bytes could make a text of gigabytes with.
WIDE = re.compile(r"\{[^{}]*(?:\d{4}|\{)|%[^a-zA-Z%]*(?:\d{4}|\*)")
DEEPEST = 40  # expressions inside one another, those behind names among them
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)
SCOPES = (*FUNCTIONS, ast.ClassDef)
PATHS = {"Path", "PurePath", "PosixPath", "PurePosixPath", "joinpath", "join"}
# Functions and methods of paths and texts that leave the last part of a path as it is.
SAME = set("abspath realpath normpath expanduser fspath resolve absolute as_posix str".split())
GONE_THROUGH = {"sorted", "list", "tuple", "set", "reversed"}
# An expression that a name is bound to, or to the elements of which; None: to something else.
Binding = tuple[ast.expr | None, bool]
Scope = dict[str, list[Binding]]


class Texts:
    """The constants that expressions of a script may be. file: its name, which `__file__` is."""

    def __init__(self, tree: ast.AST, file: str) -> None:
        self._file = file
        self._scopes: dict[ast.AST, tuple[Scope, ...]] = {}
        self._attributes: Scope = defaultdict(list)
        self._running: set[tuple[ast.AST, bool]] = set()
        self._values: dict[tuple[ast.AST, bool], set[Any]] = {}
        waiting: list[tuple[ast.AST, tuple[Scope, ...]]] = [(tree, (_bindings(tree),))]
        while waiting:
            node, scopes = waiting.pop()
            self._scopes[node] = scopes
            if isinstance(node, ast.ClassDef):
                for name, bound in _bindings(node).items():
                    self._attributes[name] += bound
            elif isinstance(node, ast.Assign):
                for target in node.targets:
                    if isinstance(target, ast.Attribute):
                        self._attributes[target.attr].append((node.value, False))
            inner = (*scopes, _bindings(node)) if isinstance(node, SCOPES) else scopes
            waiting += [(child, inner) for child in ast.iter_child_nodes(node)]

    def of(self, node: ast.expr | None, elements: bool = False) -> set[Any]:
        """Return the values of an expression; elements: of what it holds, when it is gone through."""
        if node is None or (node, elements) in self._running or len(self._running) > DEEPEST:
            return {UNKNOWN}
        key = (node, elements)
        if key in self._values:
            return self._values[key]
        self._running.add(key)
        found = self._elements(node) if elements else self._evaluated(node)
        values = set(itertools.islice(found, MOST_VALUES + 1))
        self._running.discard(key)
        if len(values) > MOST_VALUES or any(len(str(value)) > MOST_TEXT for value in values):
            values = {UNKNOWN}
        self._values[key] = values
        return values

    def _evaluated(self, node: ast.expr) -> Iterable[Any]:
        if isinstance(node, ast.Constant):
            plain = isinstance(node.value, str) or _are_whole((node.value,))
            return {node.value if plain else UNKNOWN}
        if isinstance(node, ast.Name):
            return {self._file} if node.id == "__file__" else self._bound(self._of_name(node))
        if isinstance(node, ast.Attribute):
            bound = self._attributes.get(node.attr, [])
            return self._bound(bound if 0 < len(bound) <= MOST_BINDINGS else [(None, False)])
        if isinstance(node, ast.JoinedStr):
            return map("".join, _rows(map(self._piece, node.values)))
        if isinstance(node, ast.BinOp) and isinstance(node.right, ast.Tuple):
            rows = _rows(map(self.of, [node.left, *node.right.elts]))
            return (_filled(row[0], row[1:], {}, old=True) for row in rows)
        if isinstance(node, ast.BinOp):
            pairs = _rows([self.of(node.left), self.of(node.right)])
            return (_combined(node.op, left, right) for left, right in pairs)
        if isinstance(node, ast.IfExp):
            return self.of(node.body) | self.of(node.orelse)
        if isinstance(node, ast.BoolOp):
            return set[Any]().union(*map(self.of, node.values))
        if isinstance(node, ast.Subscript):
            return self.of(node.value, elements=True)
        return self._called(node) if isinstance(node, ast.Call) else {UNKNOWN}

    def _called(self, node: ast.Call) -> Iterable[Any]:
        name = called(node)
        owner = node.func.value if isinstance(node.func, ast.Attribute) else None
        inputs = [self.of(argument) for argument in node.args]
        if any(isinstance(argument, ast.Starred) for argument in node.args):
            return {UNKNOWN}
        if name in ("get", "getenv") and len(inputs) == 2:
            return inputs[1] | {UNKNOWN}
        if name in SAME:
            return inputs[0] if inputs else self.of(owner)
        if name == "join" and isinstance(owner, ast.Constant):
            parts = getattr(node.args[0], "elts", [None]) if node.args else []
            return (str(owner.value).join(map(str, row)) for row in _rows(map(self.of, parts)))
        if name in PATHS:
            parents = [self.of(owner)] if name == "joinpath" else []
            return ("/".join(map(str, row)) for row in _rows([*parents, *inputs]))
        if name in ("with_suffix", "with_name") and len(inputs) == 1:
            pairs = _rows([self.of(owner), inputs[0]])
            return (_renamed(name, str(path), str(part)) for path, part in pairs)
        if name == "format":
            words = {word.arg: self.of(word.value) for word in node.keywords if word.arg}
            rows = _rows([self.of(owner), *inputs, *words.values()])
            count = len(inputs) + 1
            return (
                _filled(row[0], row[1:count], dict(zip(words, row[count:], strict=True)))
                for row in rows
            )
        return {UNKNOWN}

    def _elements(self, node: ast.expr) -> Iterable[Any]:
        if isinstance(node, ast.Tuple | ast.List | ast.Set):
            return set[Any]().union(*map(self.of, node.elts))
        if isinstance(node, ast.Dict):  # gone through, or looked up
            return set[Any]().union(*map(self.of, [*node.keys, *node.values]))
        if isinstance(node, ast.Name):
            bound = self._of_name(node)
            return set[Any]().union(
                *(self.of(None if each else value, elements=True) for value, each in bound)
            )
        if isinstance(node, ast.Call) and called(node) in GONE_THROUGH and node.args:
            return self.of(node.args[0], elements=True)
        if isinstance(node, ast.Call) and called(node) == "range":
            rows = _rows(map(self.of, node.args))
            return (n for row in rows for n in _range(row))
        return {UNKNOWN}

    def _of_name(self, node: ast.Name) -> list[Binding]:
        scopes = reversed(self._scopes.get(node, ()))
        bound = next((scope[node.id] for scope in scopes if node.id in scope), [])
        return bound if 0 < len(bound) <= MOST_BINDINGS else [(None, False)]

    def _bound(self, bound: list[Binding]) -> set[Any]:
        return set[Any]().union(*(self.of(value, elements) for value, elements in bound))

    def _piece(self, part: ast.expr) -> set[str]:
        """Return the texts of a part of an f-string."""
        if not isinstance(part, ast.FormattedValue):
            return self.of(part)
        specs = self.of(part.format_spec) if part.format_spec else {""}
        return {
            _filled(f"{{:{spec}}}", (value,), {}) if part.conversion in (-1, ord("s")) else UNKNOWN
            for value, spec in _rows([self.of(part.value), specs])
        }


def called(node: ast.Call) -> str:
    """Return the last name of what is called."""
    return node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")


def _bindings(scope: ast.AST) -> Scope:
    """Return what names of a module, class or function are bound to, functions inside left out."""
    bound: Scope = defaultdict(list)
    waiting = list(ast.iter_child_nodes(scope))
    if isinstance(scope, FUNCTIONS):
        waiting = list(scope.body) if isinstance(scope.body, list) else [scope.body]
        plain = [*scope.args.posonlyargs, *scope.args.args]
        defaults = [None] * (len(plain) - len(scope.args.defaults)) + scope.args.defaults
        pairs = [
            *zip(plain, defaults, strict=True),
            *zip(scope.args.kwonlyargs, scope.args.kw_defaults, strict=True),
        ]
        for argument, default in pairs:  # a call may give another
            bound[argument.arg] += [(None, False), *([(default, False)] if default else [])]
        for rest in (scope.args.vararg, scope.args.kwarg):
            bound[rest.arg if rest else ""].append((None, False))
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.Assign | ast.AnnAssign | ast.NamedExpr):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            _bind(bound, targets, node.value, False)
        elif isinstance(node, ast.For | ast.AsyncFor | ast.comprehension):
            _bind(bound, [node.target], node.iter, True)
        elif isinstance(node, ast.AugAssign):
            _bind(bound, [node.target], None, False)
        elif isinstance(node, ast.withitem) and node.optional_vars is not None:
            _bind(bound, [node.optional_vars], None, False)
        if not isinstance(node, (*FUNCTIONS, ast.ClassDef)):
            waiting += ast.iter_child_nodes(node)
    return bound


def _bind(bound: Scope, targets: list[Any], value: ast.expr | None, elements: bool) -> None:
    for target in targets:
        for part in ast.walk(target):
            if isinstance(part, ast.Name) and isinstance(part.ctx, ast.Store):
                bound[part.id].append((value if part is target else None, elements))


def _rows(parts: Iterable[Iterable[Any]]) -> Iterator[tuple[Any, ...]]:
    return itertools.islice(itertools.product(*parts), MOST_VALUES + 1)


def _combined(operator: ast.operator, left: Any, right: Any) -> Any:
    texts = isinstance(left, str) and isinstance(right, str)
    if isinstance(operator, ast.Add) and (texts or _are_whole((left, right))):
        return left + right
    if isinstance(operator, ast.Div) and texts:
        return f"{left}/{right}"
    if isinstance(operator, ast.Mod) and isinstance(left, str):
        return _filled(left, (right,), {}, old=True)
    return UNKNOWN


def _filled(
    template: Any, values: tuple[Any, ...], words: dict[str, Any], old: bool = False
) -> str:
    """Return a template with values in its places, UNKNOWN where they do not fit it.

    old: the template is one of `%`
    """
    text = str(template)
    if len(text) > MOST_TEXT or WIDE.search(text):
        return UNKNOWN
    if UNKNOWN in (*values, *words.values()):  # no number, as what is to be formatted may be
        text = re.sub(
            r"%[^a-zA-Z%]*[a-zA-Z]" if old else r"\{([^{}:!]*)[^{}]*\}",
            r"%s" if old else r"{\1}",
            text,
        )
    try:
        return text % values if old else text.format(*values, **words)
    except (ValueError, TypeError, IndexError, KeyError, AttributeError, OverflowError):
        return UNKNOWN


def _range(ends: tuple[Any, ...]) -> Iterable[Any]:
    if not _are_whole(ends) or not 1 <= len(ends) <= 3 or (len(ends) == 3 and not ends[2]):
        return [UNKNOWN]
    return range(*ends)


def _renamed(method: str, path: str, part: str) -> str:
    """Return a path with another suffix or name, as pathlib has it."""
    if method == "with_name":
        return f"{PurePosixPath(path).parent}/{part}"
    return path.removesuffix(PurePosixPath(path).suffix) + part


def _are_whole(values: tuple[Any, ...]) -> bool:
    return all(isinstance(value, int) and abs(value) < LARGEST for value in values)
