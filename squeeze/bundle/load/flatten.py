"""One module out of many: local imports resolved, names made unique, everything in running order."""

from __future__ import annotations

import ast
import copy
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from squeeze.bundle.load.attributes import Attributes, Locals
from squeeze.bundle.load.calls import imports_of_functions
from squeeze.bundle.load.copies import copy_rebound
from squeeze.bundle.load.fold import Filling
from squeeze.bundle.load.hints import renamed_texts
from squeeze.bundle.load.imports import takes_future_annotations, without_local
from squeeze.bundle.load.loading import Loading
from squeeze.bundle.load.modules import BundleError, Graph, Module
from squeeze.bundle.load.names import Names, aliases_of, defined_by
from squeeze.bundle.load.order import Piece, in_order
from squeeze.bundle.load.scopes import Use, module_uses
from squeeze.bundle.load.stars import spell_stars
from squeeze.bundle.load.tree import walk
from squeeze.bundle.load.warn import early_imports, warnings_of


@dataclass
class Flat:
    """The flat program.

    loading: side tables of the module that each top-level statement came from, and of those it loads.
    homes: (module, name) of each name. warnings: `file:line: what may not survive`. refused: names that
    stand for what cannot be bundled, and the error to raise if one of them is reached.
    """

    tree: ast.Module
    loading: Loading
    homes: dict[str, tuple[str, str]]
    warnings: list[str] = field(default_factory=list)
    refused: dict[str, BundleError] = field(default_factory=dict)

    def copied(self) -> Flat:
        """Return a copy whose passes leave this one as it is."""
        memo: dict[int, Any] = {}
        tree = copy.deepcopy(self.tree, memo)
        loading = self.loading.copied(memo)
        return Flat(tree, loading, self.homes, list(self.warnings), dict(self.refused))

    def where(self, node: ast.AST) -> str:
        """Return file:line of a node of the tree, for messages."""
        for statement, module in self.loading.origins.items():  # those inside come first
            if any(part is node for part in walk(statement)):
                return module.where(node)
        return "the program"

    def check(self) -> None:
        """Raise BundleError if the tree still holds anything that was refused."""
        for node in walk(self.tree):
            if isinstance(node, ast.Name) and node.id in self.refused:
                raise self.refused[node.id]


def flatten(graph: Graph, keep: Iterable[str] = ()) -> Flat:
    """Join the modules of a graph into one that runs them where they are first imported, once each.

    Top-level code of modules that are imported inside functions runs at the start, once shaking has
    found such a function to be reached. Raises BundleError, naming the line, where that cannot give
    the same program: star imports of computed names, assignments to another module's names. Modules
    used as values are `refused`.
    """
    modules = graph.ordered()
    spell_stars(graph)
    copy_rebound(graph)
    aliases = {module.name: aliases_of(graph, module) for module in modules}
    defined = {module.name: defined_by(module, aliases[module.name]) for module in modules}
    names = Names(graph, modules, aliases, defined)
    pieces: dict[str, list[Piece]] = {}
    origins: dict[ast.AST, Module] = {}
    lazy: dict[ast.AST, set[str]] = {}
    deferred: dict[ast.AST, list[str]] = {}
    warnings = early_imports(graph)
    refused: dict[str, BundleError] = {}
    future = False
    for module in modules:
        future |= takes_future_annotations(module)
        eager: dict[ast.AST, list[str]] = {}
        for node in module.tree.body:
            imports = list(graph.local_imports(module, ast.Module([node], [])))
            lazy[node] = {imported.module for imported in imports if imported.lazy}
            eager[node] = [imported.module for imported in imports if not imported.lazy]
        deferred |= imports_of_functions(graph, module)
        attributes = Attributes(module, graph, names)
        attributes.visit(module.tree)
        refused |= attributes.refused
        Locals(module, graph, names).visit(module.tree)
        if "__all__" not in keep and not _reads_all(module.tree):
            _WithoutAll().visit(module.tree)
        uses = [use for use in module_uses(module.tree) if not names.is_settled(use.node)]
        for use in uses:
            _rename(use, names.resolve(module.name, use.name), module)
        renamed_texts(module.tree, partial(names.resolve, module.name))
        if module.name != "__main__" and ast.get_docstring(module.tree) is not None:
            module.tree.body.pop(0)  # the program's is another one
        pieces[module.name] = [
            Piece(eager.get(node, []), without_local(node, graph, module, places=True))
            for node in module.tree.body
        ]
        statements = [s for piece in pieces[module.name] for s in piece.statements]
        origins |= dict.fromkeys(statements, module)
        warnings += warnings_of(module)
    body = in_order(graph, pieces, deferred)
    for statement in body:  # some hold those of other modules now
        lazy[statement] = {name for part in walk(statement) for name in lazy.get(part, ())}
    if future:
        at = int(ast.get_docstring(ast.Module(body, [])) is not None)
        body.insert(at, ast.ImportFrom("__future__", [ast.alias("annotations")], 0))
    tree = ast.fix_missing_locations(ast.Module(body, []))
    homes = {new: key for key, new in names.chosen.items()}
    at_top = {
        name: {imported.module for imported in imports if not imported.lazy}
        for name, imports in graph.imports.items()
    }
    return Flat(tree, Loading(origins, at_top, lazy), homes, warnings, refused)


class _WithoutAll(Filling):
    """Removal of statements about `__all__`, which nothing in a single module reads."""

    def visit_Assign(self, node: ast.Assign) -> Any:
        return None if ast.unparse(node.targets[0]) == "__all__" else node

    def visit_AugAssign(self, node: ast.AugAssign) -> Any:
        return None if ast.unparse(node.target) == "__all__" else node

    def visit_Expr(self, node: ast.Expr) -> Any:
        return None if ast.unparse(node).startswith("__all__.") else node


def _reads_all(tree: ast.Module) -> bool:
    """Return whether more is done with `__all__` than to make it."""
    made = {
        id(node.func.value)
        for node in walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)
    }
    return any(
        isinstance(node, ast.Name)
        and node.id == "__all__"
        and isinstance(node.ctx, ast.Load)
        and id(node) not in made
        for node in walk(tree)
    )


def _rename(use: Use, new: str, module: Module) -> None:
    if use.either:
        if new != use.name:
            raise BundleError(
                f"{module.where(use.node)}: a class body reads {use.name}, which it also binds, and "
                "another module binds that name, too"
            )
        return
    if not isinstance(use.node, ast.alias):
        use.rename(new)
        return
    name, bound = use.node.name, use.node.asname
    if bound is None and "." in name and name.partition(".")[0] != new:
        raise BundleError(
            f"{module.path}: import {name} and another module's {use.name} cannot both keep their name",
            fix=f"Write import {name} as something else.",
        )
    keeps = bound is None and "." in name
    use.node.asname = None if keeps or name == new else new
