"""Imported names that are variables of their own, `from lib import x` and then `x = 2`, as assignments.

In one file a name that is imported from a local module is that module's own variable. Where either
side binds it again, the importing scope gets a variable: `from lib import x as x_of_lib; x = x_of_lib`.
"""

from __future__ import annotations

import ast
from collections import defaultdict
from typing import Any

from squeeze.bundle.load.modules import BundleError, Graph, Module
from squeeze.bundle.load.names import Origin, origins
from squeeze.bundle.load.scopes import FUNCTIONS, arguments, bound_names, top_level
from squeeze.bundle.load.tree import spelled, walk


def copy_rebound(graph: Graph) -> None:
    """Give names that are imported and bound again variables of their own, in all modules.

    Raises BundleError, naming the line, where such a name stands for a module, and for imports of
    local modules in the body of a class.
    """
    changing = {name: _set_by_functions(module.tree) for name, module in graph.modules.items()}
    for module in graph.modules.values():
        _Copies(graph, module, changing).visit(module.tree)


def _set_by_functions(tree: ast.Module) -> set[str]:
    """Return the names of a module that functions in it bind, by `global`."""
    names: set[str] = set()
    for node in walk(tree):
        if isinstance(node, (*FUNCTIONS, ast.ClassDef)):
            bound, redirected, _ = bound_names(node.body)
            names |= bound & redirected
    return names


class _Copies(ast.NodeTransformer):
    def __init__(self, graph: Graph, module: Module, changing: dict[str, set[str]]) -> None:
        self.graph, self.module, self.changing = graph, module, changing
        self.copied: dict[int, set[str]] = {}  # names by the id of their import statement
        self.taken: set[str] = set()

    def _scope(self, node: Any) -> Any:
        """Note which names that a module or function imports are copied, and go on inside."""
        imports = list(top_level(ast.Module(node.body, [])))
        meanings: dict[str, set[Origin]] = defaultdict(set)
        for statement in imports:
            for name, origin in origins(self.graph, self.module, statement).items():
                meanings[name].add(origin)
        if meanings:
            again = self._bound_otherwise(node, imports)
            again |= {name for name, own in meanings.items() if len(own) > 1}
            again |= {name for name, own in meanings.items() if any(map(self._changes, own))}
            for statement in imports:
                own_names = origins(self.graph, self.module, statement).keys() & again
                self.copied[id(statement)] = own_names
        return self.generic_visit(node)

    visit_Module = visit_FunctionDef = visit_AsyncFunctionDef = _scope

    def visit_ClassDef(self, node: ast.ClassDef) -> Any:
        for statement in top_level(ast.Module(node.body, [])):
            if origins(self.graph, self.module, statement):
                raise BundleError(
                    f"{self.module.where(statement)}: the body of class {node.name} imports a "
                    "local module",
                    fix="Import it before the class.",
                )
        return self.generic_visit(node)

    def visit_Import(self, node: ast.Import) -> Any:
        for name in self.copied.get(id(node), ()):
            self._refuse(node, name, origins(self.graph, self.module, node)[name])
        return node

    def visit_ImportFrom(self, node: ast.ImportFrom) -> Any:
        copied = self.copied.get(id(node))
        if not copied:
            return node
        meanings = origins(self.graph, self.module, node)
        copies: list[ast.stmt] = []
        for alias in node.names:
            name = alias.asname or alias.name
            if name in copied:
                if meanings[name].attribute is None:
                    self._refuse(node, name, meanings[name])
                alias.asname = self._new(name, meanings[name])
                value = ast.Name(alias.asname, ast.Load())
                copies.append(ast.Assign([ast.Name(name, ast.Store())], value))
        for copy in copies:
            ast.fix_missing_locations(ast.copy_location(copy, node))
        return [node, *copies]

    def _bound_otherwise(self, node: Any, imports: list[Any]) -> set[str]:
        """Return the names that a scope, or one inside, binds by more than imports of local modules."""
        whole = [statement.names for statement in imports]
        for statement in imports:
            local = origins(self.graph, self.module, statement)
            statement.names = [
                alias
                for alias in statement.names
                if (alias.asname or alias.name.partition(".")[0]) not in local
            ]
        bound, redirected, outer = bound_names(node.body)
        for statement, names in zip(imports, whole, strict=True):
            statement.names = names
        bound |= redirected | outer
        if isinstance(node, ast.Module):
            return bound | self.changing[self.module.name]
        inside = {
            name for part in walk(node) if isinstance(part, ast.Nonlocal) for name in part.names
        }
        return bound | inside | {arg.arg for arg in arguments(node.args)}

    def _changes(self, origin: Origin) -> bool:
        """Return whether the module that a name comes from may bind it again while it is used."""
        return origin.attribute is not None and origin.attribute in self.changing[origin.module]

    def _new(self, name: str, origin: Origin) -> str:
        """Return a name for the other module's variable that nothing in this one is called."""
        if not self.taken:
            self.taken = spelled(self.module.tree)
        new = f"{name}_of_{origin.module.rpartition('.')[2]}"
        while new in self.taken:
            new += "_"
        self.taken.add(new)
        return new

    def _refuse(self, node: ast.stmt, name: str, origin: Origin) -> None:
        raise BundleError(
            f"{self.module.where(node)}: {name} is the module {origin.module}, and is bound again",
            fix="Import the names that are needed from it.",
        )
