"""Expressions and functions of a flat program that do nothing but give a value.

A value may fail to be computed: that is no effect here, and callers decide whether failing matters.
Operators, attributes and subscripts are taken to be what they are for numbers, arrays and containers;
where the program's own classes define them (properties, `__getitem__`, …), those are looked into.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Mapping

from squeeze.bundle.analysis.outside import (
    BUILTINS,
    CONSUMERS,
    FUNCTIONS_OF,
    LAZY,
    METHODS,
    MODULES,
    VIEWS,
)
from squeeze.bundle.load.scopes import FUNCTIONS, bound_names
from squeeze.bundle.load.tree import last_name, walk

CONTAINERS = (
    ast.Constant,
    ast.Tuple,
    ast.List,
    ast.Set,
    ast.Dict,
    ast.JoinedStr,
    ast.ListComp,
    ast.SetComp,
    ast.DictComp,
    ast.GeneratorExp,
)
EXPRESSIONS = (
    *CONTAINERS,
    ast.Name,
    ast.Attribute,
    ast.Subscript,
    ast.Slice,
    ast.Starred,
    ast.FormattedValue,
    ast.UnaryOp,
    ast.BinOp,
    ast.BoolOp,
    ast.Compare,
    ast.IfExp,
    ast.Lambda,
)
PASSED_OVER = (
    ast.expr_context,
    ast.operator,
    ast.unaryop,
    ast.boolop,
    ast.cmpop,
    ast.comprehension,
    ast.keyword,
    ast.arguments,
    ast.arg,
)
WRAPPERS = frozenset(
    ("staticmethod", "classmethod", "property", "cached_property", "cache", "lru_cache")
)


class Effects:
    """Facts about a flat program that hold before anything runs.

    keep: names that somebody else may set or override, so that calls of them may do anything.
    """

    def __init__(self, tree: ast.Module, keep: Iterable[str] = ()) -> None:
        self.keep = frozenset(keep)
        self.origins = import_origins(tree)
        self.functions: dict[str, ast.FunctionDef] = {}
        self.classes: dict[str, ast.ClassDef] = {}
        self.methods: dict[str, list[ast.FunctionDef | ast.AsyncFunctionDef]] = {}
        for node in tree.body:
            if isinstance(node, ast.FunctionDef):
                self.functions[node.name] = node
            elif isinstance(node, ast.ClassDef):
                self.classes[node.name] = node
        for part in walk(tree):
            if isinstance(part, ast.ClassDef):
                for child in part.body:
                    if isinstance(child, FUNCTIONS):
                        self.methods.setdefault(child.name, []).append(child)
        # a method may be hidden by an attribute of the instance that somebody assigns
        self.assigned = {
            n.attr
            for n in walk(tree)
            if isinstance(n, ast.Attribute) and not isinstance(n.ctx, ast.Load)
        }
        self.any_assigned = any(map(_defines_by_name, walk(tree)))
        self._purity: dict[int, bool] = {}

    def harmless(self, node: ast.AST, hidden: frozenset[str] = frozenset()) -> bool:
        """Return whether an expression only gives a value. hidden: names that local ones shadow."""
        for part in walk(node):
            if isinstance(part, ast.Call):
                if not self._call(part, hidden):
                    return False
            elif isinstance(part, ast.Attribute):
                if not all(
                    self.is_pure(m) for m in self.methods.get(part.attr, ()) if _is_property(m)
                ):
                    return False
            elif isinstance(part, ast.comprehension):
                if not self.container(part.iter):
                    return False
            elif not isinstance(part, (*EXPRESSIONS, *PASSED_OVER)):
                return False
        return True

    def container(self, node: ast.expr) -> bool:
        """Return whether going through a value's items surely runs nothing and uses nothing up."""
        if isinstance(node, CONTAINERS):
            return True
        if not isinstance(node, ast.Call):
            return False
        called = node.func
        if isinstance(called, ast.Attribute):
            return called.attr in VIEWS and called.attr not in self.methods
        name = called.id if isinstance(called, ast.Name) else ""
        if name in LAZY:
            return all(map(self.container, node.args))
        return name == "range" or (name in CONSUMERS and name not in self.functions)

    def _call(self, node: ast.Call, hidden: frozenset[str]) -> bool:
        called = node.func
        if isinstance(called, ast.Name):
            name = called.id
            if name in hidden or name in self.keep:
                return False
            if name in self.functions:
                return self.is_pure(self.functions[name])
            if name in self.classes:
                return self._makes_only(self.classes[name])
            origin = self.origins.get(name)
            if origin is not None:
                return _is_plain(origin)
            if name in CONSUMERS and len(node.args) == 1 and not self.container(node.args[0]):
                return False
            return name in BUILTINS and not any(k.arg == "key" for k in node.keywords)
        if not isinstance(called, ast.Attribute):
            return False
        dotted = self.dotted(called)
        if dotted is not None:
            return _is_plain(dotted)
        own = self.methods.get(called.attr, [])
        if own and (self.any_assigned or called.attr in self.assigned | self.keep):
            return False
        if isinstance(called.value, ast.Name) and called.value.id == "self" and own:
            return all(self.is_pure(method) for method in own)
        return called.attr in METHODS and all(self.is_pure(method) for method in own)

    def dotted(self, node: ast.expr) -> str | None:
        """Return `module.name` of an attribute of an imported module, None of any other."""
        parts: list[str] = []
        while isinstance(node, ast.Attribute):
            parts.append(node.attr)
            node = node.value
        if not isinstance(node, ast.Name) or node.id not in self.origins:
            return None
        return ".".join([self.origins[node.id], *reversed(parts)])

    def _makes_only(self, node: ast.ClassDef) -> bool:
        """Return whether making an instance has no effects."""
        for base in node.bases:
            name = base.id if isinstance(base, ast.Name) else ""
            if name in self.classes and self.classes[name] is not node:
                if not self._makes_only(self.classes[name]):
                    return False
            elif name not in ("object", "Exception", "ValueError"):
                return False
        makers = ("__init__", "__new__", "__post_init__")
        own = [m for m in node.body if isinstance(m, FUNCTIONS) and m.name in makers]
        return not own and not node.keywords

    def is_pure(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
        """Return whether calling a function has no effects."""
        if id(node) not in self._purity:
            self._purity[id(node)] = True  # a circle of pure functions is pure
            self._purity[id(node)] = self._body_is_pure(node)
        return self._purity[id(node)]

    def _body_is_pure(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
        if isinstance(node, ast.AsyncFunctionDef):
            return False
        if not WRAPPERS.issuperset(map(last_name, node.decorator_list)):
            return False
        bound, redirected, outer = bound_names(node.body)
        if redirected or outer:
            return False
        parameters = {a.arg for a in walk(node.args) if isinstance(a, ast.arg)}
        hidden = frozenset(bound | parameters)
        return all(self._statement(child, hidden) for child in node.body)

    def _statement(self, node: ast.stmt, hidden: frozenset[str]) -> bool:
        if isinstance(node, ast.Pass | ast.Continue | ast.Break):
            return True
        if isinstance(node, ast.Return | ast.Expr):
            return node.value is None or self.harmless(node.value, hidden)
        if isinstance(node, ast.Assign):
            return all(map(_only_names, node.targets)) and self.harmless(node.value, hidden)
        if isinstance(node, ast.If):
            rest = [*node.body, *node.orelse]
            return self.harmless(node.test, hidden) and all(
                self._statement(s, hidden) for s in rest
            )
        if isinstance(node, ast.For):
            rest = [*node.body, *node.orelse]
            return (
                _only_names(node.target)
                and self.container(node.iter)
                and self.harmless(node.iter, hidden)
                and all(self._statement(s, hidden) for s in rest)
            )
        return False


def import_origins(tree: ast.Module) -> dict[str, str]:
    """Return the dotted origin of every name bound by a top-level import."""
    origins: dict[str, str] = {}
    for node in tree.body:
        if isinstance(node, ast.Import):
            for alias in node.names:
                name = alias.asname or alias.name.partition(".")[0]
                origins[name] = alias.name if alias.asname else name
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                origins[alias.asname or alias.name] = f"{node.module}.{alias.name}"
    return origins


def dotted_origin(node: ast.AST, origins: Mapping[str, str]) -> str:
    """Return a chain of attributes as the dotted name of its origin; "?" stands for another root.

    origins: as `import_origins` has them; a name that is not imported is its own
    """
    parts: list[str] = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    name = node.id if isinstance(node, ast.Name) else "?"
    return ".".join([origins.get(name, name), *reversed(parts)])


def _defines_by_name(node: ast.AST) -> bool:
    """Return whether methods may come from anywhere: `setattr`, or `type(name, bases, methods)`."""
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "type":
        return len(node.args) == 3
    return "setattr" in (getattr(node, "id", ""), getattr(node, "attr", ""))


def _is_plain(dotted: str) -> bool:
    module, _, rest = dotted.partition(".")
    return module in MODULES or rest.partition(".")[0] in FUNCTIONS_OF.get(module, ())


def _only_names(node: ast.expr) -> bool:
    return isinstance(node, ast.Name) or (
        isinstance(node, ast.Tuple) and all(map(_only_names, node.elts))
    )


def _is_property(node: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    return any(last_name(d) in ("property", "cached_property") for d in node.decorator_list)
