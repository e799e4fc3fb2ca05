"""Modules that functions import, found from the statements that call these functions.

A function may run before the line at which its module is imported at a top level. Which functions a
statement calls is told by names: of what it mentions, of what that mentions, and so on. A method counts
once its class and an attribute of its name are mentioned.
"""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from squeeze.bundle.load.modules import Graph, Module
from squeeze.bundle.load.scopes import FUNCTIONS, bound_names
from squeeze.bundle.load.tree import children, walk

# Nodes that may run a function of the program; operators and subscripts mostly make types.
CALLING = (ast.Call, ast.Attribute, ast.FormattedValue, ast.With, ast.For, ast.comprehension)


def imports_of_functions(graph: Graph, module: Module) -> dict[ast.AST, list[str]]:
    """Return the local modules that functions import, by top-level statement or method."""
    imports: dict[ast.AST, list[str]] = {}
    for statement in module.tree.body:
        for unit in (statement, *_methods(statement)):
            parts = ast.Module(_without_methods(unit), [])
            lazy = [i.module for i in graph.local_imports(module, parts) if i.lazy]
            if lazy:
                imports[unit] = list(dict.fromkeys(lazy))
    return imports


class Calls:
    """The statements of a flat program, and what the functions that they may call import.

    imports: as `imports_of_functions` has them, of all modules
    """

    def __init__(self, body: Iterable[ast.stmt], imports: Mapping[ast.AST, list[str]]) -> None:
        self.imports = imports
        self.binders: dict[str, list[ast.stmt]] = defaultdict(list)
        for statement in body:
            for name in bound_names([statement])[0]:
                self.binders[name].append(statement)

    def imported_by(self, statement: ast.stmt) -> list[str]:
        """Return the modules that functions import which may run when a top-level statement does."""
        running = list(at_once(statement))
        if not self.imports or not any(map(_may_call, running)):
            return []
        met: dict[ast.AST, None] = {}  # statements and methods whose bodies may run
        queue: list[ast.AST] = []
        attributes: set[str] = set()
        waiting: dict[str, list[ast.AST]] = defaultdict(list)  # methods of classes met, by name

        def mention(nodes: Iterable[ast.AST]) -> None:
            for node in nodes:
                if isinstance(node, ast.Name):
                    queue.extend(self.binders.get(node.id, ()))
                elif isinstance(node, ast.Attribute) and node.attr not in attributes:
                    attributes.add(node.attr)
                    queue.extend(waiting.pop(node.attr, ()))

        mention(running)
        while queue:
            unit = queue.pop(0)
            if unit not in met:
                met[unit] = None
                for method in _methods(unit):
                    called = method.name in attributes or self._is_called_unseen(unit, method.name)
                    (queue if called else waiting[method.name]).append(method)
                mention(part for child in _without_methods(unit) for part in walk(child))
        return list(dict.fromkeys(name for unit in met for name in self.imports.get(unit, ())))

    def _is_called_unseen(self, owner: Any, name: str) -> bool:
        """Return whether a method may run where no attribute of its name is read."""
        bases = [getattr(base, "id", "") for base in owner.bases]
        special = name.startswith("__") and name.endswith("__")
        return special or not all(base in self.binders or base == "object" for base in bases)


def _may_call(node: ast.AST) -> bool:
    return isinstance(node, CALLING) or bool(getattr(node, "decorator_list", None))


def at_once(node: ast.AST) -> Iterator[ast.AST]:
    """Yield the nodes of a statement that are evaluated when it runs: all but bodies of functions."""
    yield node
    below = children(node)
    if isinstance(node, FUNCTIONS):
        defaults = [d for d in (*node.args.defaults, *node.args.kw_defaults) if d is not None]
        below = [*node.decorator_list, *defaults]
    for child in below:
        yield from at_once(child)


def _methods(unit: ast.AST) -> list[Any]:
    body = unit.body if isinstance(unit, ast.ClassDef) else []
    return [child for child in body if isinstance(child, FUNCTIONS)]


def _without_methods(unit: Any) -> list[ast.stmt]:
    """Return a statement, or the parts of a class that are none of its methods."""
    if not isinstance(unit, ast.ClassDef):
        return [unit]
    return [part for part in children(unit) if not isinstance(part, FUNCTIONS)]
