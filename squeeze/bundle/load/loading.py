"""The modules that a flat program would load: at its start, and once a statement is reached."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from squeeze.bundle.load.modules import Module


@dataclass(frozen=True)
class Loading:
    """Side tables of a flat program.

    origins: module of each top-level statement; a statement without one is part of every run
    eager: modules that each module imports at its top level, by name
    lazy: modules that functions of a top-level statement import
    """

    origins: dict[ast.AST, Module] = field(default_factory=dict)
    eager: Mapping[str, set[str]] = field(default_factory=dict)
    lazy: Mapping[ast.AST, set[str]] = field(default_factory=dict)

    def copied(self, memo: Mapping[int, Any]) -> Loading:
        """Return the tables of a copy of the program; memo: of `copy.deepcopy`, nodes by identity."""
        return Loading(
            {memo[id(node)]: module for node, module in self.origins.items() if id(node) in memo},
            self.eager,
            {memo[id(node)]: names for node, names in self.lazy.items() if id(node) in memo},
        )

    def module_of(self, statement: ast.stmt) -> str:
        """Return the name of the module a statement came from, "" where that is not known."""
        origin = self.origins.get(statement)
        return origin.name if origin is not None else ""

    def adopt(self, body: Iterable[ast.stmt]) -> None:
        """Say of statements that passes have made that they came from the module of those before."""
        module = None
        for statement in body:
            module = self.origins.get(statement, module)
            if module is not None:
                self.origins[statement] = module

    def at_start(self) -> set[str]:
        """Return the modules that are loaded before anything else is reached."""
        return self._with_eager(("", "__main__"))

    def by(self, statement: ast.stmt) -> set[str]:
        """Return the modules that are loaded where a statement, or a function in it, runs."""
        if isinstance(statement, ast.Import | ast.ImportFrom):
            return set()  # several modules may share it
        return self._with_eager((self.module_of(statement), *self.lazy.get(statement, ())))

    def _with_eager(self, names: Iterable[str]) -> set[str]:
        loaded: set[str] = set()
        queue = list(names)
        while queue:
            name = queue.pop()
            if name not in loaded:
                loaded.add(name)
                queue += self.eager.get(name, ())
        return loaded
