"""Statements of all modules in the order in which they run."""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from squeeze.bundle.load.calls import Calls, at_once
from squeeze.bundle.load.imports import Place
from squeeze.bundle.load.modules import Graph
from squeeze.bundle.load.tree import BLOCKS, walk


@dataclass(frozen=True)
class Piece:
    """Statements that one of a module became. imports: local modules that it imports when it runs."""

    imports: list[str]
    statements: list[ast.stmt]

    def places(self) -> Iterator[tuple[int, Place]]:
        """Yield the places in blocks of the statements that import local modules, by their blocks."""
        for node in (part for statement in self.statements for part in walk(statement)):
            for block in (getattr(node, name, None) for name in BLOCKS):
                if isinstance(block, list):
                    yield from ((id(block), part) for part in block if isinstance(part, Place))


def in_order(
    graph: Graph, pieces: dict[str, list[Piece]], deferred: Mapping[ast.AST, list[str]]
) -> list[ast.stmt]:
    """Return the statements of all modules as they run; those that only functions import come first.

    A module that is only imported in one block, of an `if` or a `try` say, runs there. One that is
    imported elsewhere, too, runs before that, and one that functions import, too, before the first
    statement that may call them.

    deferred: modules that functions import, by statement or method
    """
    order = _Order(graph, pieces, deferred)
    body: list[ast.stmt] = []
    at_start = graph.at_start()
    for name in pieces:
        if name not in at_start:
            order.run(name, body)
    early = len(body)
    order.run("__main__", body)
    documented = pieces["__main__"][0].statements if pieces["__main__"] else []
    if early and documented and ast.get_docstring(ast.Module(documented, [])) is not None:
        body.remove(documented[0])
        body.insert(0, documented[0])
    return body


class _Order(ast.NodeTransformer):
    """Modules put one after the other.

    sites: of each module, who imports it: the name of a module, or the id of a block
    """

    def __init__(
        self, graph: Graph, pieces: dict[str, list[Piece]], deferred: Mapping[ast.AST, list[str]]
    ) -> None:
        self.graph, self.pieces = graph, pieces
        self.calls = Calls((s for name in pieces for s in self._statements(name)), deferred)
        self.begun: set[str] = set()
        self.placed: set[ast.stmt] = set()
        self.sites: dict[str, set[tuple[str, int]]] = defaultdict(set)
        for importer, own in pieces.items():
            for imported in graph.imports[importer]:
                if imported.lazy:
                    self.sites[imported.module].add((importer, 0))
            for piece in own:
                nested = [
                    (block, name) for block, place in piece.places() for name in place.imports
                ]
                plain = set(piece.imports) - {name for _, name in nested}
                for block, name in [*nested, *((0, name) for name in plain)]:
                    self.sites[name].add((importer, block))

    def run(self, name: str, body: list[ast.stmt]) -> None:
        """Add the statements of a module to a block, after those of what it imports."""
        if name in self.begun:
            return  # a circle: the one that was begun first goes on, as at run time
        self.begun.add(name)
        for piece in self.pieces[name]:
            inside = {part for block, _ in piece.places() for part in self._inside(block)}
            for imported in piece.imports:
                for part in self._behind(imported) if imported in inside else [imported]:
                    if part not in inside:
                        self.run(part, body)
            for statement in piece.statements:
                for called in self.calls.imported_by(statement):
                    if called not in self.begun and not self._reads_unbound(called):
                        self.run(called, body)
                self.placed.add(statement)
                body.append(self.visit(statement))

    def visit(self, node: ast.AST) -> Any:
        if not isinstance(node, Place):
            return (
                self.generic_visit(node) if isinstance(node, ast.stmt | ast.excepthandler) else node
            )
        block: list[ast.stmt] = []
        for name in node.imports:
            self.run(name, block)
        return block or ast.Pass()

    def _statements(self, name: str) -> list[ast.stmt]:
        return [statement for piece in self.pieces[name] for statement in piece.statements]

    def _reads_unbound(self, name: str) -> bool:
        """Return whether a module cannot run yet: it reads names that one begun has yet to bind.

        Then no function has imported it, either.
        """
        own = {s for part in (name, *self._behind(name)) for s in self._statements(part)}
        names = {
            node.id
            for statement in own
            for node in at_once(statement)
            if isinstance(node, ast.Name)
        }
        binders = [self.calls.binders[name] for name in names if name in self.calls.binders]
        return any(not self.placed & set(some) and not own & set(some) for some in binders)

    def _inside(self, block: int) -> set[str]:
        """Return the modules that run if a block does, and nothing else imports."""
        inside: set[str] = set()
        growing = True
        while growing:
            more = {
                name
                for name, sites in self.sites.items()
                if all(at == block or importer in inside for importer, at in sites)
            }
            growing, inside = more > inside, more
        return inside

    def _behind(self, name: str) -> list[str]:
        """Return the modules that run for a module, when it does, and have not begun."""
        names = [name]
        for module in names:  # grows meanwhile
            imports = {i.module: None for i in self.graph.imports[module] if not i.lazy}
            names += [name for name in imports if name not in {*names, *self.begun}]
        return names[1:]
