"""Functions of a program whose every call is known: what their parameters can be is known, too."""

from __future__ import annotations

import ast
import builtins
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from squeeze.bundle.analysis.attributes import attribute_words, has_known_bases
from squeeze.bundle.analysis.outside import MODULE_METHODS
from squeeze.bundle.analysis.parameters import transparent
from squeeze.bundle.analysis.places import Places
from squeeze.bundle.analysis.variables import Variable, constant_names, variables_of
from squeeze.bundle.load.scopes import FUNCTIONS, bound_names
from squeeze.bundle.load.tree import walk


@dataclass
class Called:
    """A function and all its calls. first: parameters that no call gives, as `self`."""

    node: Any
    calls: list[ast.Call]
    first: int = 0

    @property
    def positional(self) -> list[ast.arg]:
        """Parameters that a call may give by position."""
        return [*self.node.args.posonlyargs, *self.node.args.args][self.first :]

    @property
    def parameters(self) -> list[ast.arg]:
        """Parameters that calls give."""
        return self.positional + self.node.args.kwonlyargs

    def position(self, parameter: ast.arg) -> int | None:
        """Return the place of a parameter in a call, None if only its name can give it."""
        return next((at for at, part in enumerate(self.positional) if part is parameter), None)

    def given(self, call: ast.Call, parameter: ast.arg) -> ast.expr | None:
        """Return what a call gives a parameter, None where it leaves it to the default."""
        at = self.position(parameter)
        if at is not None and at < len(call.args):
            return call.args[at]
        return next((word.value for word in call.keywords if word.arg == parameter.arg), None)

    def default(self, parameter: ast.arg) -> ast.expr | None:
        """Return what a parameter is by default, None where it has to be given."""
        own = self.node.args
        several = [*own.posonlyargs, *own.args]
        missing = [None] * (len(several) - len(own.defaults))
        pairs = [
            *zip(several, [*missing, *own.defaults], strict=True),
            *zip(own.kwonlyargs, own.kw_defaults, strict=True),
        ]
        return next(default for part, default in pairs if part is parameter)

    def values(self, parameter: ast.arg) -> list[ast.expr | None]:
        """Return what a parameter is in each call, None where that is an error."""
        default = self.default(parameter)
        given = (self.given(call, parameter) for call in self.calls)
        return [default if value is None else value for value in given]

    @property
    def plain(self) -> bool:
        """True if all calls spell out their arguments, and give no more than there are."""
        if self.node.args.vararg or self.node.args.kwarg:
            return False
        return not any(
            len(call.args) > len(self.positional)
            or any(isinstance(part, ast.Starred) for part in call.args)
            or any(word.arg is None for word in call.keywords)
            for call in self.calls
        )


class Calls:
    """The calls of a flat program that looks up no names by their text.

    keep: names of what somebody else may call or set.
    """

    def __init__(self, tree: ast.Module, keep: Iterable[str] = ()) -> None:
        self.keep = frozenset(keep)
        self.places = Places(tree)
        variables = variables_of(tree)
        self.names = constant_names(variables) - self.keep
        self.read_by = {id(read): v for v in variables for read in v.reads}
        bound = {v.name for v in variables if v.stores or v.otherwise}
        self.builtins = set(dir(builtins)) - bound
        self.of_module = {v.name: v for v in variables if isinstance(v.scope, ast.Module)}
        self.local: dict[tuple[int, str], Variable] = {(id(v.scope), v.name): v for v in variables}
        self.classes = {node.name: node for node in tree.body if isinstance(node, ast.ClassDef)}
        self.words = attribute_words(tree)
        self.attributes: dict[str, list[ast.Attribute]] = defaultdict(list)
        self.bound: Counter[str] = Counter()  # in the bodies of classes
        for part in walk(tree):
            if isinstance(part, ast.Attribute):
                self.attributes[part.attr].append(part)
            elif isinstance(part, ast.ClassDef):
                self.bound.update(bound_names(part.body)[0])
        self._tree = tree

    def known(self) -> Iterator[Called]:
        """Yield the functions, constructors and methods whose every call is known."""
        for node in self._tree.body:
            if isinstance(node, FUNCTIONS):
                sought = [self._function(node)]
            elif isinstance(node, ast.ClassDef):
                sought = [self._maker(node), *(self._method(node, child) for child in node.body)]
            else:
                continue
            for called in sought if node.name not in self.keep else ():
                known = called is not None and called.plain and called.node.name not in self.keep
                if known and id(called.node) not in self.places.inspecting:  # type: ignore[union-attr]
                    yield called  # type: ignore[misc]

    def _calls_of(self, reads: list[Any]) -> list[ast.Call] | None:
        """Return the calls of what is read, None if it is read for anything else."""
        parents: list[Any] = [self.places.parent(read) for read in reads]
        for read, parent in zip(reads, parents, strict=True):
            if not (isinstance(parent, ast.Call) and parent.func is read):
                return None
        return parents

    def _function(self, node: Any) -> Called | None:
        """Return a function that is only called."""
        variable = self.of_module[node.name]
        calls = self._calls_of(variable.reads) if variable.once and _keeps_calls(node) else None
        return None if calls is None else Called(node, calls)

    def _maker(self, node: ast.ClassDef) -> Called | None:
        """Return the constructor of a class of which the program only makes instances."""
        makers = [c for c in node.body if isinstance(c, FUNCTIONS) and c.name == "__init__"]
        if len(makers) != 1 or makers[0].decorator_list:
            return None
        sought = self._made(node)
        calls = None if sought is None else self._calls_of(sought)
        return None if calls is None else Called(makers[0], calls, 1)

    def _made(self, node: ast.ClassDef) -> list[ast.expr] | None:
        """Return what is called to make instances of a class and those derived, None for any more."""
        variable = self.of_module[node.name]
        if not variable.once or node.decorator_list or node.keywords:
            return None
        if "__class__" in {getattr(part, "attr", "") for part in walk(node)}:
            return None
        reads = [*variable.reads]
        for method in node.body:
            if isinstance(method, FUNCTIONS) and "classmethod" in _marks(method):
                reads += self.local[id(method), method.args.args[0].arg].reads
        made: list[ast.expr] = []
        for read in reads:
            parent: Any = self.places.parent(read)
            if isinstance(parent, ast.ClassDef):
                above = self._made_above(parent)
                if above is None:
                    return None
                made += above
            elif isinstance(parent, ast.Attribute):
                if parent.attr == "__init__":
                    return None
            elif not _asks(parent, read):
                made.append(read)
        return made

    def _made_above(self, node: ast.ClassDef) -> list[ast.expr] | None:
        """Return what a derived class calls to make the part of the class above it."""
        if len(node.bases) > 1:
            return None
        makers = [c for c in node.body if isinstance(c, FUNCTIONS) and c.name == "__init__"]
        if not makers:
            return self._made(node)
        return [part for part in walk(makers[0]) if _is_super(part)]

    def _method(self, owner: ast.ClassDef, node: Any) -> Called | None:
        """Return a method that is only called, of its own class or by its own instances."""
        if not isinstance(node, FUNCTIONS) or node.name in self.words or self.bound[node.name] > 1:
            return None
        marks = _marks(node)
        if node.name.startswith("__") or "property" in marks or not _keeps_calls(node):
            return None
        of_class = bool(marks & {"classmethod", "staticmethod"})
        hidden = has_known_bases(owner, self.classes)
        if not hidden and not (_is_module(owner) and node.name not in MODULE_METHODS):
            return None
        reads = self.attributes[node.name]
        if not all(self._is_of(read.value, owner, of_class) for read in reads):
            return None
        calls = self._calls_of(reads)
        return None if calls is None else Called(node, calls, int("staticmethod" not in marks))

    def _is_of(self, node: ast.expr, owner: ast.ClassDef, of_class: bool) -> bool:
        """Return whether an expression is a class, or `self` or `cls` in its methods."""
        if not isinstance(node, ast.Name):
            return False
        if node.id == owner.name:
            return of_class and any(read is node for read in self.of_module[node.id].reads)
        for method in owner.body:
            if not isinstance(method, FUNCTIONS):
                continue
            first = [*method.args.posonlyargs, *method.args.args]
            if first and first[0].arg == node.id:
                marks = _marks(method)
                if "staticmethod" not in marks and (of_class or "classmethod" not in marks):
                    variable = self.local[id(method), node.id]
                    if not variable.stores and any(read is node for read in variable.reads):
                        return True
        return False


def _is_module(node: ast.ClassDef) -> bool:
    """Return whether a class is one of torch's modules."""
    return [ast.unparse(base) for base in node.bases] in (["nn.Module"], ["torch.nn.Module"])


def _keeps_calls(node: Any) -> bool:
    """Return whether decorators call a function as it is called, whatever it is given."""
    remembering = any("cache" in mark for mark in _marks(node))
    return transparent(node) and not remembering


def _marks(node: Any) -> set[str]:
    return {ast.unparse(mark) for mark in node.decorator_list}


def _is_super(node: ast.AST) -> bool:
    return isinstance(node, ast.Attribute) and ast.unparse(node) == "super().__init__"


def _asks(node: Any, read: ast.Name) -> bool:
    named = isinstance(node, ast.Call) and getattr(node.func, "id", "") == "isinstance"
    return named and len(node.args) == 2 and node.args[1] is read
