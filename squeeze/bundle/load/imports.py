"""Import statements of the flat program: local ones go, the others come once each."""

from __future__ import annotations

import ast
from typing import Any

from squeeze.bundle.load.modules import Graph, Module, absolute


def without_local(node: ast.stmt, graph: Graph, module: Module) -> list[ast.stmt]:
    """Return the statement without imports of local modules and of __future__, if anything is left."""
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
        _Nested(graph, module).generic_visit(node)
        return [node]
    return [node] if node.names else []


class _Nested(ast.NodeTransformer):
    def __init__(self, graph: Graph, module: Module) -> None:
        self.graph, self.module = graph, module

    def visit(self, node: ast.AST) -> Any:
        if isinstance(node, ast.Import | ast.ImportFrom):
            return without_local(node, self.graph, self.module) or ast.Pass()
        return self.generic_visit(node)


def takes_future_annotations(module: Module) -> bool:
    return any(
        isinstance(node, ast.ImportFrom) and node.module == "__future__"
        for node in module.tree.body
    )
