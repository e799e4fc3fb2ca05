"""Top-level statements that do nothing but bind their names when they run."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from squeeze.bundle.analysis.effects import import_origins
from squeeze.bundle.analysis.outside import ACTING, VALUE_BUILTINS, VALUE_MODULES
from squeeze.bundle.load.scopes import FUNCTIONS, evaluated_outside

PLAIN_BASES = frozenset(("object", "Protocol", "Generic", "ABC", "NamedTuple"))


class Purity:
    """Names of one flat program that tell which statements only bind theirs."""

    def __init__(self, tree: ast.Module) -> None:
        self.imported = import_origins(tree)
        self.classes = {node.name: node for node in tree.body if isinstance(node, ast.ClassDef)}

    def only_binds(self, node: ast.stmt) -> bool:
        """Return whether running a statement has no effect but the names it binds."""
        if isinstance(node, ast.Import):
            return True
        if isinstance(node, ast.ImportFrom):
            return node.module != "__future__" and all(alias.name != "*" for alias in node.names)
        if isinstance(node, FUNCTIONS):
            defaults = [*node.args.defaults, *(d for d in node.args.kw_defaults if d is not None)]
            return all(map(self._only_value, [*node.decorator_list, *defaults]))
        if isinstance(node, ast.ClassDef):
            return self._class_only_binds(node)
        if isinstance(node, ast.Assign):
            to_names = all(isinstance(target, ast.Name | ast.Tuple) for target in node.targets)
            return to_names and self._only_value(node.value)
        if isinstance(node, ast.AnnAssign):
            return isinstance(node.target, ast.Name) and (
                node.value is None or self._only_value(node.value)
            )
        return isinstance(node, ast.Pass)

    def _class_only_binds(self, node: ast.ClassDef) -> bool:
        outside = [*node.decorator_list, *node.bases, *(k.value for k in node.keywords)]
        return (
            self._is_plain(node)
            and all(map(self._only_value, outside))
            and all(
                isinstance(child, ast.Pass) or is_docstring(child) or self.only_binds(child)
                for child in node.body
            )
        )

    def _is_plain(self, node: ast.ClassDef) -> bool:
        """Return whether no base in the program acts on being inherited from."""
        for base in node.bases:
            parent = self.classes.get(base.id) if isinstance(base, ast.Name) else None
            if parent is not None and parent is not node:
                hooks = {c.name for c in parent.body if isinstance(c, FUNCTIONS)}
                if "__init_subclass__" in hooks or not self._is_plain(parent):
                    return False
        return True

    def _only_value(self, node: ast.expr) -> bool:
        """Return whether an expression only gives a value; the body of a lambda does not run yet."""
        for part in _walk_running(node):
            if isinstance(part, ast.Await | ast.Yield | ast.YieldFrom | ast.NamedExpr):
                return False
            if isinstance(part, ast.Call) and not self._call_is_pure(part.func):
                return False
        return True

    def _call_is_pure(self, function: ast.expr) -> bool:
        if isinstance(function, ast.Call):  # a decorator with arguments
            return self._call_is_pure(function.func)
        root, attributes = function, list[str]()
        while isinstance(root, ast.Attribute):
            attributes.append(root.attr)
            root = root.value
        if isinstance(root, ast.Constant):
            return True  # a method of a literal
        if not isinstance(root, ast.Name) or ACTING & set(attributes):
            return False
        origin = self.imported.get(root.id)
        if origin is not None:
            dotted = ".".join([origin, *reversed(attributes)])
            return dotted.partition(".")[0] in VALUE_MODULES
        if root.id in self.classes:
            return not attributes and self._is_record(self.classes[root.id])
        return not attributes and root.id in VALUE_BUILTINS

    def _is_record(self, node: ast.ClassDef) -> bool:
        """Return whether a class has no construction code of its own, dataclasses included."""
        methods = {child.name for child in node.body if isinstance(child, FUNCTIONS)}
        if methods & {"__init__", "__new__", "__post_init__"} or node.keywords:
            return False
        bases = [base.id if isinstance(base, ast.Name) else "" for base in node.bases]
        return all(
            base in PLAIN_BASES or (base in self.classes and self._is_record(self.classes[base]))
            for base in bases
        )


def _walk_running(node: ast.expr) -> Iterator[ast.AST]:
    """Yield the parts of an expression that run when it does."""
    stack: list[ast.AST] = [node]
    while stack:
        part = stack.pop()
        yield part
        if isinstance(part, ast.Lambda):
            stack += evaluated_outside(part)
        else:
            stack += ast.iter_child_nodes(part)


def is_docstring(node: ast.stmt) -> bool:
    """Return whether a statement is a literal that nothing reads but `__doc__`."""
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
