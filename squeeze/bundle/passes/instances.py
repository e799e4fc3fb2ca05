"""Attributes that constructors make one constant, or that nothing reads, go from the program."""

from __future__ import annotations

import ast
from typing import Any

from squeeze.bundle.analysis.attributes import has_known_bases
from squeeze.bundle.analysis.calls import Calls
from squeeze.bundle.analysis.effects import Effects, import_origins
from squeeze.bundle.analysis.readers import look_ups
from squeeze.bundle.load.fold import UNKNOWN, value_of
from squeeze.bundle.load.scopes import FUNCTIONS
from squeeze.bundle.load.tree import walk
from squeeze.bundle.passes.settle import allowed, constant, put

LISTING = frozenset(
    ("vars", "__dict__", "__getattr__", "__getattribute__", "__setattr__", "setattr")
)


def settle_instances(tree: ast.Module, keep: tuple[str, ...] = ()) -> None:
    """Put constants, in place, where methods read what one constructor alone sets to them.

    What is set and nothing reads goes, too, unless the class inherits from outside, which may look.
    keep: names of functions that somebody else may call, of attributes that somebody else may set
    """
    if look_ups(tree) or _lists_attributes(tree):
        return
    pass_ = _Instances(tree, keep)
    for node in tree.body:
        if isinstance(node, ast.ClassDef):
            pass_.settle(node)
    ast.fix_missing_locations(tree)


def _lists_attributes(tree: ast.Module) -> bool:
    """Return whether a program finds attributes of its instances other than by their names."""
    imported = import_origins(tree)
    harmless = {
        id(node.func)
        for node in walk(tree)
        if isinstance(node, ast.Call)
        and len(node.args) == 1
        and getattr(node.args[0], "id", None) in imported
    }
    return any(
        {getattr(node, "attr", None), getattr(node, "id", None), getattr(node, "name", None)}
        & LISTING
        for node in walk(tree)
        if id(node) not in harmless
    )


class _Instances:
    def __init__(self, tree: ast.Module, keep: tuple[str, ...]) -> None:
        self.calls, self.effects = Calls(tree, keep), Effects(tree, keep)
        self.own = {name: self._of_instance(node) for name, node in self.calls.classes.items()}
        self.computed = any(map(_computes_name, walk(tree)))
        self.values: dict[int, list[ast.expr | None]] = {}  # of parameters, by a read of theirs
        for called in self.calls.known():
            for parameter in called.parameters:
                variable = self.calls.local[id(called.node), parameter.arg]
                if not variable.stores and variable.otherwise == 1:
                    values = called.values(parameter)
                    self.values |= {id(read): values for read in variable.reads}
        for variable in self.calls.local.values():
            if len(variable.stores) == 1 and variable.once:
                binding = self.calls.places.binding(variable.stores[0])
                if binding is not None:
                    self.values |= {id(read): [binding.value] for read in variable.reads}

    def settle(self, node: ast.ClassDef) -> None:
        """Settle what the constructor of a class sets, and nothing else does."""
        calls, own = self.calls, self.own[node.name]
        foreign = {
            part
            for name, parts in self.own.items()
            if not (self._family(name) & self._family(node.name))
            for part in parts
        }
        makers = [child for child in node.body if _named(child, "__init__")]
        for name, every in calls.attributes.items():
            several = [part for part in every if id(part) not in foreign]
            stores = [part for part in several if not isinstance(part.ctx, ast.Load)]
            if name in calls.keep or name in calls.bound:
                continue
            if len(stores) != 1 or id(stores[0]) not in own:
                continue
            binding = calls.places.binding(stores[0])
            if binding is None or calls.places.parent(binding.statement) not in makers:
                continue
            reads = [part for part in several if isinstance(part.ctx, ast.Load)]
            mine = [read for read in reads if id(read) in own]
            if constant(binding.value, calls.names):
                mine = [read for read in mine if allowed(binding.value, [read], calls.places)]
                put(mine, binding.value, calls.places)
                every[:] = [part for part in every if part not in mine]
                reads = [read for read in reads if read not in mine]
            if reads or name in calls.words or self.computed:
                continue
            registers = not has_known_bases(node, calls.classes)
            if self.effects.harmless(binding.value) and not (
                registers and not self._plain(binding.value)
            ):
                calls.places.drop(binding)

    def _family(self, name: str) -> set[str]:
        """Return a class of the program and those above it."""
        bases = [base.id for base in self.calls.classes[name].bases if isinstance(base, ast.Name)]
        above = [base for base in bases if base in self.calls.classes and base != name]
        return {name}.union(*map(self._family, above))

    def _plain(self, node: ast.expr | None) -> bool:
        """Return whether a value is a literal, or an instance that an outside class does not look at."""
        queue, visited = [node], set[int]()
        while queue:
            part = queue.pop()
            if part is None or id(part) in visited or value_of(part) is not UNKNOWN:
                continue
            visited.add(id(part))
            if id(part) in self.values:
                queue += self.values[id(part)]
                continue
            kind = getattr(part.func, "id", "") if isinstance(part, ast.Call) else ""
            classes = self.calls.classes
            if kind not in classes or not has_known_bases(classes[kind], classes):
                return False
        return True

    def _of_instance(self, node: ast.ClassDef) -> set[int]:
        """Return the attributes of `self` in the methods of a class."""
        several = set[int]()
        for method in node.body:
            if not isinstance(method, FUNCTIONS):
                continue
            marks = {ast.unparse(mark) for mark in method.decorator_list}
            first = [*method.args.posonlyargs, *method.args.args][:1]
            if not first or marks & {"staticmethod", "classmethod"}:
                continue
            variable = self.calls.local[id(method), first[0].arg]
            if not variable.stores:
                parents: list[Any] = list(map(self.calls.places.parent, variable.reads))
                several |= {id(parent) for parent in parents if isinstance(parent, ast.Attribute)}
        return several


def _computes_name(node: ast.AST) -> bool:
    """Return whether a call finds an attribute by a name that is no literal."""
    if not isinstance(node, ast.Call) or len(node.args) < 2:
        return getattr(node, "attr", getattr(node, "id", "")) == "attrgetter"
    named = isinstance(node.func, ast.Name) and node.func.id in ("getattr", "hasattr")
    return named and not isinstance(node.args[1], ast.Constant)


def _named(node: ast.stmt, name: str) -> bool:
    return isinstance(node, FUNCTIONS) and node.name == name
