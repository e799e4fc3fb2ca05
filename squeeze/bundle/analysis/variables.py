"""Variables of a program: where each is bound and read, whatever scope it belongs to."""

from __future__ import annotations

import ast
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from squeeze.bundle.load.scopes import (
    COMPREHENSIONS,
    FUNCTIONS,
    alias_name,
    arguments,
    bound_names,
    evaluated_around,
    evaluated_outside,
    evaluated_with_types,
    type_parameters,
)
from squeeze.bundle.load.tree import children, walk


@dataclass(eq=False)
class Variable:
    """A name of one scope.

    scope: the module, function or comprehension. stores, reads: its `ast.Name` nodes, wherever they
    stand. otherwise: it is bound by more than these: as a parameter, a definition, an import, …;
    or a class body may mean it or a name of its own.
    """

    name: str
    scope: ast.AST
    stores: list[ast.Name] = field(default_factory=list)
    reads: list[ast.Name] = field(default_factory=list)
    otherwise: int = 0

    @property
    def once(self) -> bool:
        """True if the program binds it in one place."""
        return len(self.stores) + self.otherwise == 1


@dataclass
class _Frame:
    kind: str  # module, class, function, or types: that of type parameters
    node: ast.AST
    variables: dict[str, Variable]
    redirected: set[str] = field(default_factory=set)  # declared global


def variables_of(tree: ast.Module) -> list[Variable]:
    """Return the variables of a module and of all scopes in it; names of classes are left out."""
    finder = _Finder(tree)
    finder.inside(finder.module, tree.body)
    return [variable for variable in finder.found if not isinstance(variable.scope, ast.ClassDef)]


def constant_names(variables: list[Variable]) -> set[str]:
    """Return the names of the module that mean one thing in every scope."""
    count: dict[str, int] = {}
    for variable in variables:
        if variable.stores or variable.otherwise:
            count[variable.name] = count.get(variable.name, 0) + 1
    return {
        variable.name
        for variable in variables
        if isinstance(variable.scope, ast.Module) and variable.once and count[variable.name] == 1
    }


class _Finder:
    """A walk through scopes as Python's rules nest them (see `load.scopes`)."""

    def __init__(self, tree: ast.Module) -> None:
        self.found: list[Variable] = []
        self.frames: list[_Frame] = []
        self.module = self._frame("module", tree, bound_names(tree.body)[0])

    def _frame(
        self, kind: str, node: ast.AST, names: Iterable[str], redirected: Iterable[str] = ()
    ) -> _Frame:
        variables = {name: Variable(name, node) for name in names}
        self.found += variables.values()
        return _Frame(kind, node, variables, set(redirected))

    def inside(self, frame: _Frame, nodes: Iterable[ast.AST]) -> None:
        """Go through the nodes of a scope."""
        self.frames.append(frame)
        for node in nodes:
            self.visit(node)
        self.frames.pop()

    def variable(self, name: str) -> Variable:
        """Return what a name means here; a name of the module that nothing binds is a builtin."""
        for depth, frame in enumerate(reversed(self.frames)):
            if frame.kind == "module" or name in frame.redirected:
                break
            if (
                frame.kind == "class"
                and depth
                and not (depth == 1 and self.frames[-1].kind == "types")
            ):
                continue
            if name in frame.variables:
                return frame.variables[name]
        if name not in self.module.variables:
            self.module.variables[name] = Variable(name, self.module.node)
            self.found.append(self.module.variables[name])
        return self.module.variables[name]

    def function(self, node: Any) -> None:
        """Go through the body of a function or lambda."""
        inner = node.body if isinstance(node.body, list) else [node.body]
        bound, redirected, outer = bound_names(inner)
        parameters = {arg.arg for arg in arguments(node.args)}
        frame = self._frame("function", node, (bound | parameters) - redirected - outer, redirected)
        for name in parameters:
            frame.variables[name].otherwise += 1
        self.inside(frame, inner)

    def definition(self, node: Any) -> None:
        """Go through a function or class and what is evaluated around it."""
        name = node.name.id if isinstance(node.name, ast.Name) else node.name
        self.variable(name).otherwise += 1
        for child in evaluated_around(node):
            self.visit(child)
        types = {parameter.name for parameter in type_parameters(node)}
        if types:
            self.frames.append(self._frame("types", node, types))
        for child in evaluated_with_types(node):
            self.visit(child)
        if isinstance(node, ast.ClassDef):
            bound, redirected, outer = bound_names(node.body)
            frame = self._frame("class", node, bound - redirected - outer, redirected)
            self.inside(frame, node.body)
        elif isinstance(node, FUNCTIONS):
            self.function(node)
        if types:
            self.frames.pop()

    def visit(self, node: Any) -> None:
        """Note what a node binds and reads, and all below it."""
        if hasattr(node, "type_params"):
            return self.definition(node)
        if isinstance(node, ast.Lambda):
            for child in evaluated_outside(node):
                self.visit(child)
            return self.function(node)
        if isinstance(node, COMPREHENSIONS):
            return self._comprehension(node)
        if isinstance(node, (*FUNCTIONS, ast.ClassDef)):
            return self.definition(node)
        if isinstance(node, ast.Name):
            self._name(node)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            for alias in node.names:
                self.variable(alias_name(node, alias)).otherwise += 1
        elif isinstance(node, ast.ExceptHandler | ast.MatchAs | ast.MatchStar) and node.name:
            self.variable(node.name).otherwise += 1
        elif isinstance(node, ast.MatchMapping) and node.rest:
            self.variable(node.rest).otherwise += 1
        for child in children(node):
            self.visit(child)

    def _name(self, node: ast.Name) -> None:
        variable = self.variable(node.id)
        if not isinstance(node.ctx, ast.Load):
            variable.stores.append(node)
            return
        variable.reads.append(node)
        if self.frames[-1].kind == "class" and node.id in self.frames[-1].variables:
            own = self.frames.pop()  # before the class binds it, the name is one from around it
            self.variable(node.id).otherwise += 2
            self.frames.append(own)

    def _comprehension(self, node: Any) -> None:
        first, *others = node.generators
        self.visit(first.iter)
        targets = [generator.target for generator in node.generators]
        bound = {n.id for t in targets for n in walk(t) if isinstance(n, ast.Name)}
        results = [node.key, node.value] if isinstance(node, ast.DictComp) else [node.elt]
        rest = [*first.ifs, *[part for g in others for part in (g.iter, *g.ifs)]]
        self.inside(self._frame("function", node, bound), [*targets, *rest, *results])
