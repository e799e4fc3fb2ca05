"""Names of methods that a program computes: how they may begin, and what lists all of them.

`vars(x)` and `x.__dict__` list methods only where x is a class. It surely is none where x is the
first parameter of a method, a name that is bound once and to a new instance, or an imported module.
"""

from __future__ import annotations

import ast
from collections import Counter
from functools import cached_property

from squeeze.bundle.load.scopes import FUNCTIONS, alias_name, arguments, module_uses
from squeeze.bundle.load.tree import children, walk

# They list what a class or an instance has by name, methods among it.
LISTING = frozenset(("attrgetter", "dir", "getmembers", "methodcaller"))
OF_ITSELF = frozenset(("__dict__", "vars"))  # they leave out what an instance has of its class
BY_NAME = frozenset(("delattr", "getattr", "hasattr", "setattr"))
PARSING = frozenset(("parse_args", "parse_intermixed_args"))  # they make an `argparse.Namespace`


class Computed:
    """Places of one program where names of attributes are computed."""

    def __init__(self, tree: ast.Module) -> None:
        self._tree = tree

    @cached_property
    def _constants(self) -> set[int]:
        return _constants(self._tree)

    @cached_property
    def _things(self) -> _Things:
        return _Things(self._tree)

    def beginning(self, node: ast.AST) -> str | None:
        """Return how names that a node computes may begin, "" for any; None where it computes none."""
        if isinstance(node, ast.Attribute):
            return "" if self._lists(node.attr, node.value) else None
        if not isinstance(node, ast.Call) or not node.args:
            return None
        called = node.func.id if isinstance(node.func, ast.Name) else ""
        if self._lists(called, node.args[0]):
            return ""
        if called not in BY_NAME or len(node.args) < 2:
            return None
        beginning = _beginning(node.args[1])
        return None if beginning == "" and id(node.args[1]) in self._constants else beginning

    def _lists(self, name: str, value: ast.expr) -> bool:
        return name in LISTING or (name in OF_ITSELF and not self._things.is_plain(value))


def _constants(tree: ast.Module) -> set[int]:
    """Return the ids of reads of module-level names that only stand for one string."""
    uses = module_uses(tree)
    stores = Counter(use.name for use in uses if use.stores or use.index is not None)
    texts = {
        node.targets[0].id
        for node in tree.body
        if isinstance(node, ast.Assign)
        and isinstance(node.targets[0], ast.Name)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    }
    return {id(use.node) for use in uses if use.name in texts and stores[use.name] == 1}


def _beginning(node: ast.expr) -> str | None:
    """Return the known beginning of a string; None for a constant, which counts as read."""
    if isinstance(node, ast.Constant):
        return None
    if isinstance(node, ast.JoinedStr) and node.values and isinstance(node.values[0], ast.Constant):
        return str(node.values[0].value)
    if isinstance(node, ast.BinOp) and isinstance(node.left, ast.Constant):
        text = str(node.left.value)
        return text.partition("%")[0] if isinstance(node.op, ast.Mod) else text
    return ""


class _Things:
    """Names of a program that surely stand for an instance or for a module from outside."""

    def __init__(self, tree: ast.Module) -> None:
        self.classes = {node.name: node for node in tree.body if isinstance(node, ast.ClassDef)}
        self.names: set[int] = set()  # ids of the nodes that read them
        uses = module_uses(tree)
        stores = Counter(use.name for use in uses if use.stores or use.index is not None)
        imported = Counter(
            alias_name(node, alias)
            for node in tree.body
            if isinstance(node, ast.Import)
            for alias in node.names
        )
        plain = {name for name, count in imported.items() if stores[name] == count}
        plain |= {name for name in self._instances(tree.body) if stores[name] == 1}
        self.names |= {id(use.node) for use in uses if use.name in plain}
        for node in walk(tree):
            if isinstance(node, ast.ClassDef):
                for child in node.body:
                    if isinstance(child, FUNCTIONS):
                        self._method(node, child)
            if isinstance(node, FUNCTIONS):
                bound = _times_bound(node)
                made = {name for name in self._instances(node.body) if bound[name] == 1}
                self._add(node, made)

    def is_plain(self, node: ast.expr) -> bool:
        """Return whether an expression surely is no class."""
        return id(node) in self.names or self._makes(node)

    def _makes(self, node: ast.expr) -> bool:
        if not isinstance(node, ast.Call):
            return False
        if isinstance(node.func, ast.Attribute):
            return node.func.attr in PARSING and node.func.attr not in self.classes
        made = self.classes.get(node.func.id) if isinstance(node.func, ast.Name) else None
        return made is not None and self._has_instances(made)

    def _has_instances(self, node: ast.ClassDef) -> bool:
        """Return whether calling a class gives an instance that is no class itself."""
        makers = {child.name for child in node.body if isinstance(child, FUNCTIONS)}
        names = [base.id if isinstance(base, ast.Name) else "" for base in node.bases]
        return "__new__" not in makers and not node.keywords and "type" not in names

    def _instances(self, body: list[ast.stmt]) -> set[str]:
        return {
            node.targets[0].id
            for node in body
            if isinstance(node, ast.Assign)
            and isinstance(node.targets[0], ast.Name)
            and self._makes(node.value)
        }

    def _method(self, owner: ast.ClassDef, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        first = [*node.args.posonlyargs, *node.args.args][:1]
        bases = [ast.unparse(base) for base in owner.bases]
        special = node.name in ("__new__", "__init_subclass__", "__class_getitem__")
        wrappers = {ast.unparse(wrapper) for wrapper in node.decorator_list}
        plain = not special and "type" not in bases and wrappers <= {"property"}
        if first and plain and not _times_bound(node)[first[0].arg]:
            self._add(node, {first[0].arg})

    def _add(self, function: ast.FunctionDef | ast.AsyncFunctionDef, names: set[str]) -> None:
        """Add the reads of names of a function, those of functions inside that hide them left out."""
        stack: list[ast.AST] = [*function.body]
        while stack:
            node = stack.pop()
            if isinstance(node, ast.Name) and node.id in names:
                self.names.add(id(node))
            if isinstance(node, (*FUNCTIONS, ast.Lambda)):
                hidden = {arg.arg for arg in arguments(node.args)} & names
                if hidden:
                    continue
            stack += children(node)


def _times_bound(node: ast.AST) -> Counter[str]:
    """Return how often code binds each name, functions and comprehensions inside counted in."""
    names = [n for n in walk(node) if isinstance(n, ast.Name)]
    return Counter(n.id for n in names if not isinstance(n.ctx, ast.Load))
