"""Top-level statements that do nothing but bind their names when they run.

Decorating is a call, and so is deriving a class from one that acts on it: unless they are listed as
ones that only make a value, they have effects.
"""

from __future__ import annotations

import ast
import sys

from squeeze.bundle.analysis.outside import ACTING_MODULES, BASE_MODULES, BLIND_MODULES
from squeeze.bundle.analysis.values import RUNNING, Values
from squeeze.bundle.load.scopes import FUNCTIONS, TYPE_ALIASES, arguments
from squeeze.bundle.load.tree import is_docstring, walk


class Purity(Values):
    """Names of one flat program that tell which statements only bind theirs."""

    def only_binds(self, node: ast.stmt) -> bool:
        """Return whether running a statement has no effect but the names it binds."""
        if isinstance(node, ast.Import):
            return all(_loads_only(alias.name) for alias in node.names)
        if isinstance(node, ast.ImportFrom):
            starred = any(alias.name == "*" for alias in node.names)
            return not starred and node.module != "__future__" and _loads_only(node.module or "")
        if isinstance(node, FUNCTIONS):
            defaults = [*node.args.defaults, *(d for d in node.args.kw_defaults if d is not None)]
            hints = [node.returns, *(arg.annotation for arg in arguments(node.args))]
            return (
                all(map(self.decorates_only, node.decorator_list))
                and all(map(self.only_value, defaults))
                and all(map(self._is_idle_hint, hints))
            )
        if isinstance(node, ast.ClassDef):
            return self._class_only_binds(node)
        if isinstance(node, ast.Assign):
            return all(self._binds(target, node.value) for target in node.targets)
        if isinstance(node, ast.AnnAssign):
            return (
                isinstance(node.target, ast.Name)
                and self._is_idle_hint(node.annotation)
                and (node.value is None or self.only_value(node.value))
            )
        return isinstance(node, (ast.Pass, *TYPE_ALIASES))

    def _binds(self, target: ast.expr, value: ast.expr) -> bool:
        if isinstance(target, ast.Name):
            return self.only_value(value)
        return (
            isinstance(target, ast.Tuple)
            and all(isinstance(part, ast.Name) for part in target.elts)
            and self._inert(value)
        )

    def _is_idle_hint(self, node: ast.expr | None) -> bool:
        return node is None or self.lazy_annotations or is_idle_hint(node)

    def _class_only_binds(self, node: ast.ClassDef) -> bool:
        if self.named_by_class or not self._derives_only(node):
            return False
        if self._is_enumeration(node) and any(isinstance(c, FUNCTIONS) for c in node.body):
            return False  # its members are made now, by its methods
        return all(map(self.decorates_only, node.decorator_list)) and all(
            is_docstring(child) or self.only_binds(child) for child in node.body
        )

    def _derives_only(self, node: ast.ClassDef) -> bool:
        """Return whether no base acts on being inherited from."""
        for base in node.bases:
            root = base.value if isinstance(base, ast.Subscript) else base
            if isinstance(root, ast.Call):
                if not self.only_value(root):
                    return False
                continue
            parent = self.classes.get(root.id) if isinstance(root, ast.Name) else None
            if parent is not None and parent is not node:
                hooks = {c.name for c in parent.body if isinstance(c, FUNCTIONS)}
                if "__init_subclass__" in hooks or not self._derives_only(parent):
                    return False
            elif not self._is_idle_base(root):
                return False
        return all(
            word.arg == "metaclass" and self._is_idle_base(word.value) for word in node.keywords
        )

    def _is_idle_base(self, node: ast.expr) -> bool:
        name = self.dotted(node)
        return name is not None and ("." not in name or name.rpartition(".")[0] in BASE_MODULES)

    def _is_enumeration(self, node: ast.ClassDef) -> bool:
        names = [self.dotted(base) or "" for base in node.bases]
        parents = [self.classes.get(base.id) for base in node.bases if isinstance(base, ast.Name)]
        return any(name.startswith("enum.") for name in names) or any(
            self._is_enumeration(p) for p in parents if p is not None and p is not node
        )


def _loads_only(module: str) -> bool:
    """Return whether importing a module from outside does nothing that a program relies on."""
    top = module.partition(".")[0]
    return top in BLIND_MODULES or (top in sys.stdlib_module_names and top not in ACTING_MODULES)


def is_idle_hint(node: ast.expr) -> bool:
    """Return whether evaluating an annotation runs nothing that could be noticed."""
    return not any(isinstance(part, RUNNING) for part in walk(node))
