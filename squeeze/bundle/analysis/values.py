"""Expressions that only give a value, whatever else the program does.

Operators, attributes and conversions run code of the program where their operands are instances of its
classes: unless no special method and no property of it has effects, they count as values only where
all operands are *inert*, that is constants, containers of them, functions, classes, modules. Going
through the items of anything else may use them up.
"""

from __future__ import annotations

import ast
import builtins
from collections import Counter
from functools import cached_property

from squeeze.bundle.analysis.effects import Effects, import_origins
from squeeze.bundle.analysis.outside import (
    CONSUMERS,
    DECORATORS,
    LAZY,
    METHODS,
    VALUE_BUILTINS,
    VALUE_FUNCTIONS,
    VALUE_MODULES,
    VIEWS,
)
from squeeze.bundle.load.scopes import FUNCTIONS, alias_name, module_uses
from squeeze.bundle.load.tree import children, walk

PLAIN_BASES = frozenset(("object", "Protocol", "Generic", "ABC", "NamedTuple"))
CONSTRUCTING = frozenset(
    ("__init__", "__new__", "__post_init__", "__setattr__", "__getattribute__")
)
# Special methods that only run when the program says so.
CALLED = frozenset(
    "__call__ __del__ __enter__ __exit__ __init__ __init_subclass__ __new__ __next__ "
    "__post_init__ __set_name__".split()
)
ACCESSORS = frozenset(("setter", "getter", "deleter"))
RUNNING = (ast.Call, ast.Await, ast.Yield, ast.YieldFrom, ast.NamedExpr)
CONTAINERS = (ast.Tuple, ast.List, ast.Set)


class Values:
    """Names of one flat program that tell which expressions only give a value."""

    def __init__(self, tree: ast.Module) -> None:
        self._tree = tree
        self.imported = import_origins(tree)
        self.classes = {node.name: node for node in tree.body if isinstance(node, ast.ClassDef)}
        functions = {node.name for node in walk(tree) if isinstance(node, FUNCTIONS)}
        self.named_by_class = "__set_name__" in functions
        self.lazy_annotations = any(
            isinstance(node, ast.ImportFrom) and node.module == "__future__" for node in tree.body
        )
        stores = Counter(u.name for u in module_uses(tree) if u.stores or u.index is not None)
        for node in tree.body:  # `import a` and `import a.b` bind the same
            if isinstance(node, ast.Import | ast.ImportFrom):
                stores.subtract(alias_name(node, alias) for alias in node.names)
        stores += Counter(self.imported.keys())
        own = {node.name for node in tree.body if isinstance(node, FUNCTIONS)} | set(self.classes)
        outside = set(self.imported) | {name for name in dir(builtins) if name not in stores}
        self.inert_names = {n for n in own | outside if stores[n] < 2}
        self.containers: set[str] = set()  # names of displays, which can be gone through again
        self.decorators: set[str] = set()
        for node in tree.body:
            if isinstance(node, ast.Assign):
                names = {t.id for t in node.targets if isinstance(t, ast.Name)}
                names = {name for name in names if stores[name] == 1}
                if self._inert(node.value):
                    self.inert_names |= names
                if isinstance(node.value, (*CONTAINERS, ast.Dict)):
                    self.containers |= names
                if isinstance(node.value, ast.Call) and self.decorates_only(node.value):
                    self.decorators |= names

    @cached_property
    def quiet(self) -> bool:
        """True when operators, attributes and the like run no code of the program that has effects."""
        effects = Effects(self._tree)
        return not effects.any_assigned and all(
            effects.is_pure(method)
            for name, methods in effects.methods.items()
            for method in methods
            if (name.startswith("__") and name.endswith("__") and name not in CALLED)
            or any(not self.decorates_only(wrapper) for wrapper in method.decorator_list)
            or "property" in " ".join(map(ast.unparse, method.decorator_list))
        )

    def decorates_only(self, node: ast.expr) -> bool:
        """Return whether a decorator only gives a value, and does so with whatever it decorates."""
        if isinstance(node, ast.Call):
            values = [*node.args, *(keyword.value for keyword in node.keywords)]
            return all(map(self.only_value, values)) and self.decorates_only(node.func)
        if isinstance(node, ast.Attribute) and node.attr in ACCESSORS:
            return isinstance(node.value, ast.Name)
        if isinstance(node, ast.Name) and node.id in self.decorators:
            return True
        return self.dotted(node) in DECORATORS

    def dotted(self, node: ast.expr) -> str | None:
        """Return `module.name` of what is imported, or the name of a builtin; None of anything else."""
        parts: list[str] = []
        while isinstance(node, ast.Attribute):
            parts.append(node.attr)
            node = node.value
        if not isinstance(node, ast.Name) or node.id not in self.inert_names:
            return None
        if node.id in self.imported:
            return ".".join([self.imported[node.id], *reversed(parts)])
        return node.id if hasattr(builtins, node.id) and not parts else None

    def only_value(self, node: ast.expr) -> bool:
        """Return whether an expression only gives a value."""
        if isinstance(node, ast.Name):
            return True
        if isinstance(node, CONTAINERS) and not isinstance(node, ast.Set):
            return all(map(self.only_value, node.elts))
        if isinstance(node, ast.Dict):
            keys = all(key is not None and self._inert(key) for key in node.keys)
            return keys and all(map(self.only_value, node.values))
        if isinstance(node, ast.Call) and self._makes_only(node):
            values = [*node.args, *(keyword.value for keyword in node.keywords)]
            return all(map(self.only_value, values))
        return self._inert(node)

    def _makes_only(self, node: ast.Call) -> bool:
        """Return whether a call makes a value without looking into its arguments."""
        called = node.func
        if isinstance(called, ast.Name) and called.id in self.classes:
            return self._is_record(self.classes[called.id])
        name = self.dotted(called) or ""
        return name in DECORATORS or name.partition(".")[0] in ("typing", "dataclasses", "types")

    def _inert(self, node: ast.expr, local: frozenset[str] = frozenset()) -> bool:
        """Return whether an expression gives a constant, a container of such, a function or the like.

        local: variables of comprehensions around it.
        """
        if isinstance(node, ast.Constant):
            return True
        if isinstance(node, ast.Name):
            return node.id in self.inert_names or node.id in local or self.quiet
        if isinstance(node, ast.Lambda):
            return all(
                map(self.only_value, [*node.args.defaults, *filter(None, node.args.kw_defaults)])
            )
        if isinstance(node, ast.Attribute):
            own = isinstance(node.value, ast.Name) and node.value.id in self.classes
            known = self.dotted(node) is not None or not own or self.quiet
            return known and (self.dotted(node) is not None or self._inert(node.value, local))
        if isinstance(node, ast.Call):
            return self._gives_inert(node, local)
        if isinstance(node, ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp):
            for generator in node.generators:
                if not self._again(generator.iter, local):
                    return False
                local |= {n.id for n in walk(generator.target) if isinstance(n, ast.Name)}
                if not all(self._inert(test, local) for test in generator.ifs):
                    return False
            results = [node.key, node.value] if isinstance(node, ast.DictComp) else [node.elt]
            return all(self._inert(part, local) for part in results)
        if isinstance(node, RUNNING):
            return False
        if isinstance(node, ast.Starred):
            return self._again(node.value, local)
        return all(
            self._inert(child, local) for child in children(node) if isinstance(child, ast.expr)
        )

    def _again(self, node: ast.expr, local: frozenset[str]) -> bool:
        """Return whether the items of an inert expression are there again afterwards."""
        if isinstance(node, ast.Call):
            called = node.func
            view = isinstance(called, ast.Attribute) and called.attr in VIEWS
            if view and isinstance(called.value, ast.Name):  # type: ignore[attr-defined]
                return self._again(called.value, local)  # type: ignore[attr-defined]
            return self._gives_inert(node, local)
        if isinstance(node, ast.Name):
            return node.id in self.containers or node.id in local or node.id in self.inert_names
        return self._inert(node, local)

    def _gives_inert(self, node: ast.Call, local: frozenset[str]) -> bool:
        called = node.func
        known = self._is_listed(called)
        if isinstance(called, ast.Attribute) and self.dotted(called) is None:
            literal = isinstance(called.value, ast.Constant)
            known = literal or (called.attr in METHODS and self._inert(called.value, local))
        values = [*node.args, *(keyword.value for keyword in node.keywords)]
        goes_through = isinstance(called, ast.Name) and called.id in CONSUMERS | LAZY

        def consumed(value: ast.expr) -> bool:
            return self._again(value, local) if goes_through else self._inert(value, local)

        return (
            known
            and not any(keyword.arg == "key" for keyword in node.keywords)
            and all(map(consumed, values))
        )

    def _is_listed(self, node: ast.expr) -> bool:
        """Return whether a function from outside only makes a value."""
        name = self.dotted(node) or ""
        module, _, rest = name.partition(".")
        return (
            name in VALUE_BUILTINS
            or module in VALUE_MODULES
            or rest in VALUE_FUNCTIONS.get(module, ())
        )

    def _is_record(self, node: ast.ClassDef) -> bool:
        """Return whether a class has no construction code of its own, dataclasses included."""
        methods = {child.name for child in node.body if isinstance(child, FUNCTIONS)}
        makers = [
            word.value
            for part in walk(node)
            if isinstance(part, ast.Call)
            for word in part.keywords
            if word.arg in ("default_factory", "factory")
        ]
        if methods & CONSTRUCTING or node.keywords:
            return False
        if not all((self.dotted(maker) or "") in ("list", "dict", "set") for maker in makers):
            return False
        bases = [base.id if isinstance(base, ast.Name) else "" for base in node.bases]
        return all(
            base in PLAIN_BASES or (base in self.classes and self._is_record(self.classes[base]))
            for base in bases
        )
