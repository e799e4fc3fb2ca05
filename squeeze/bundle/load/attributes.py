"""`module.name`, and names that functions import, become names of the flat program."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from typing import Any

from squeeze.bundle.load.imports import without_local
from squeeze.bundle.load.modules import BundleError, Graph, Module
from squeeze.bundle.load.names import Names, Origin, origins
from squeeze.bundle.load.scopes import FUNCTIONS, arguments, bound_names, module_uses, top_level
from squeeze.bundle.load.tree import walk


class Attributes(ast.NodeTransformer):
    """Replacement of `module.name` by the flat name, for every alias of a local module."""

    def __init__(self, module: Module, graph: Graph, names: Names) -> None:
        self.module, self.graph, self.names = module, graph, names
        self.refused: dict[str, BundleError] = {}
        self.global_ids = {id(u.node) for u in module_uses(module.tree)}
        # names of the functions around; None for those that stand for no import
        self.functions: list[dict[str, Origin | None]] = []

    def _function(self, node: Any) -> Any:
        bound, redirected, outer = bound_names(node.body)
        own = bound - redirected - outer | {arg.arg for arg in arguments(node.args)}
        imported: dict[str, Origin] = {}
        for child in _own_imports(node):
            imported |= origins(self.graph, self.module, child)
        return self._inside(node, dict.fromkeys(own) | imported)

    visit_FunctionDef = visit_AsyncFunctionDef = _function

    def visit_Lambda(self, node: ast.Lambda) -> Any:
        return self._inside(node, {arg.arg: None for arg in arguments(node.args)})

    def _comprehension(self, node: Any) -> Any:
        first = node.generators[0]
        outside, first.iter = self.visit(first.iter), ast.Constant(None)
        targets = [part for generator in node.generators for part in walk(generator.target)]
        self._inside(node, {part.id: None for part in targets if isinstance(part, ast.Name)})
        first.iter = outside
        return node

    visit_ListComp = visit_SetComp = visit_DictComp = visit_GeneratorExp = _comprehension

    def _inside(self, node: ast.AST, names: Mapping[str, Origin | None]) -> Any:
        self.functions.append({**names})
        self.generic_visit(node)
        self.functions.pop()
        return node

    def _module(self, node: ast.expr) -> str | None:
        """Return the local module an expression stands for, None for anything else."""
        if isinstance(node, ast.Name):
            for imported in reversed(self.functions):
                if node.id in imported:
                    origin = imported[node.id]
                    if origin is None:
                        return None
                    if origin.attribute is None:
                        return origin.module
                    return self.names.module_of(origin.module, origin.attribute)
            if id(node) in self.global_ids:
                return self.names.module_of(self.module.name, node.id)
        elif isinstance(node, ast.Attribute):
            base = self._module(node.value)
            if base is not None:
                inner = f"{base}.{node.attr}"
                if not self.graph.binds(base, node.attr):
                    return inner if self.graph.is_local(inner) else None
                return self.names.module_of(base, node.attr)
        return None

    def visit_Attribute(self, node: ast.Attribute) -> Any:
        base = self._module(node.value)
        if base is None:
            return self.generic_visit(node)
        if self._module(node) is not None:
            return self._as_value(node, ast.unparse(node))
        if not isinstance(node.ctx, ast.Load):
            raise BundleError(
                f"{self.module.where(node)}: assigns to {base}.{node.attr}",
                fix="Give that module a function that sets it.",
            )
        if not self.graph.binds(base, node.attr):
            raise BundleError(f"{self.module.where(node)}: {base} has no {node.attr}")
        new = self.names.resolve(base, node.attr)
        return self.names.settled(new, node, node.ctx)

    def visit_Name(self, node: ast.Name) -> Any:
        if isinstance(node.ctx, ast.Load) and self._module(node) is not None:
            return self._as_value(node, node.id)
        return node

    def _as_value(self, node: ast.expr, name: str) -> ast.Name:
        error = BundleError(
            f"{self.module.where(node)}: the module {name} is used as a value",
            fix="Import the names that are needed from it.",
        )
        marker = f"_module_{name.replace('.', '_')}_{len(self.refused)}_{self.module.where(node)}"
        self.refused[marker] = error
        return self.names.settled(marker, node, ast.Load())


class Locals(ast.NodeTransformer):
    """Replacement of names that functions import from local modules by their flat names."""

    def __init__(self, module: Module, graph: Graph, names: Names) -> None:
        self.module, self.graph, self.names = module, graph, names

    def _function(self, node: Any) -> Any:
        for child in _own_imports(node):
            for name, origin in origins(self.graph, self.module, child).items():
                if origin.attribute is not None:
                    _Rename(name, origin, self.names).body_of(node)
        self.generic_visit(node)
        node.body = [s for part in node.body for s in without_local(part, self.graph, self.module)]
        node.body = node.body or [ast.Pass()]
        return node

    visit_FunctionDef = visit_AsyncFunctionDef = _function


class _Rename(ast.NodeTransformer):
    """Replacement of one name in a function, and in those inside it that do not bind it themselves."""

    def __init__(self, old: str, origin: Origin, names: Names) -> None:
        assert origin.attribute is not None
        self.old, self.new, self.names = old, names.resolve(origin.module, origin.attribute), names

    def body_of(self, node: Any) -> None:
        node.body = [self.visit(child) for child in node.body]

    def visit_Name(self, node: ast.Name) -> Any:
        if node.id != self.old or self.names.is_settled(node):
            return node
        return self.names.settled(self.new, node, node.ctx)

    def _function(self, node: Any) -> Any:
        body = node.body if isinstance(node.body, list) else [node.body]
        bound, _, outer = bound_names(body)
        hidden = self.old in (bound - outer) | {arg.arg for arg in arguments(node.args)}
        if not hidden:
            return self.generic_visit(node)
        for name in ("decorator_list", "args"):
            if hasattr(node, name):
                value = getattr(node, name)
                for child in value if isinstance(value, list) else [value]:
                    self.visit(child)
        return node

    visit_FunctionDef = visit_AsyncFunctionDef = visit_Lambda = _function

    def visit_ClassDef(self, node: ast.ClassDef) -> Any:
        if self.old not in bound_names(node.body)[0]:
            return self.generic_visit(node)
        methods = [child for child in node.body if isinstance(child, FUNCTIONS)]
        for child in [*node.decorator_list, *node.bases, *node.keywords, *methods]:
            self.visit(child)  # its own statements read its own name
        return node


def _own_imports(node: Any) -> list[ast.Import | ast.ImportFrom]:
    """Return the import statements of a function's own scope."""
    return list(top_level(ast.Module(node.body, [])))
