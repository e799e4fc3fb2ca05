"""Import statements of the flat program: local ones go, the others come once each."""

from __future__ import annotations

import ast
from typing import Any

from squeeze.bundle.load.modules import Graph, Module, absolute


class Place(ast.Pass):
    """A statement in a block of a module's top level where local modules are imported.

    imports: their names, packages around them first
    """

    def __init__(self, imports: list[str]) -> None:
        super().__init__()
        self.imports = imports


def without_local(
    node: ast.stmt, graph: Graph, module: Module, places: bool = False
) -> list[ast.stmt]:
    """Return the statement without imports of local modules and of __future__, if anything is left.

    places: leave a `Place` where imports in its blocks were
    """
    if isinstance(node, ast.Import):
        node.names = [alias for alias in node.names if not graph.is_local(alias.name)]
    elif isinstance(node, ast.ImportFrom):
        base = absolute(module, node)
        if base == "__future__" or graph.is_local(base):
            return []
        node.names = [
            a for a in node.names if not graph.is_local(f"{base}.{a.name}" if base else a.name)
        ]
    else:
        _Nested(graph, module, places).generic_visit(node)
        return [node]
    return [node] if node.names else []


class _Nested(ast.NodeTransformer):
    def __init__(self, graph: Graph, module: Module, places: bool) -> None:
        self.graph, self.module, self.places = graph, module, places

    def visit(self, node: ast.AST) -> Any:
        if isinstance(node, ast.Import | ast.ImportFrom):
            whole = ast.Module([node], [])
            imports = [target.module for target in self.graph.local_imports(self.module, whole)]
            rest = without_local(node, self.graph, self.module)
            return [*([Place(imports)] if imports and self.places else []), *rest] or ast.Pass()
        return self.generic_visit(node)


def takes_future_annotations(module: Module) -> bool:
    return any(
        isinstance(node, ast.ImportFrom) and node.module == "__future__"
        for node in module.tree.body
    )
