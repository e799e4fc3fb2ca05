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


def join_imports(body: list[ast.stmt], origins: dict[ast.AST, Module]) -> list[ast.stmt]:
    """Return the statements with plain external imports once each and first, the others in place.

    `origins` gets an entry for every new statement.
    """
    imports: dict[str, ast.stmt] = {}
    rest: list[ast.stmt] = []
    for statement in body:
        if isinstance(statement, ast.Import | ast.ImportFrom):
            for alias in statement.names:
                single: ast.stmt
                if isinstance(statement, ast.Import):
                    single = ast.Import([alias])
                else:
                    single = ast.ImportFrom(statement.module, [alias], statement.level)
                if statement in origins:  # `from __future__` comes from no module in particular
                    origins[single] = origins[statement]
                imports.setdefault(ast.unparse(ast.fix_missing_locations(single)), single)
        else:
            rest.append(statement)
    first = [text for text in imports if text.startswith("from __future__")]
    ordered = [imports.pop(text) for text in first]
    return [*ordered, *imports.values(), *rest]
