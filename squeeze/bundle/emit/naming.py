"""Short names for what is local, given so that the compressed program is small.

A minifier that gives the shortest names to the most frequent variables of each function makes the
text shortest and hard to predict: a short name means something else in every function. Here the
variables of a function are A, B, C … in the order in which they appear, parameters first, so that
the next new name is known and `def f(A,B,C):` says nothing new.

Parameters are renamed where no keyword can reach them. A function that is only ever called by its own
name has the keywords of those calls renamed as well (`squeeze/bundle/analysis/parameters.py`).
"""

from __future__ import annotations

import ast
import itertools
import keyword
import string
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from squeeze.bundle.analysis.parameters import Parameters, Scope
from squeeze.bundle.load.scopes import (
    COMPREHENSIONS,
    FUNCTIONS,
    TYPE_ALIASES,
    Use,
    alias_name,
    arguments,
    bound_names,
    evaluated_around,
    evaluated_with_types,
    module_uses,
    type_parameters,
)
from squeeze.bundle.load.tree import children, walk

INSPECTING = frozenset({"locals", "vars", "dir", "eval", "exec"})  # they look into their scope


@dataclass(eq=False)
class Local:
    """A local variable: every place that spells it, in order, and the scopes these lie in."""

    name: str
    scope: Scope
    uses: list[Use] = field(default_factory=list)
    spelled_in: set[Scope] = field(default_factory=set)
    parameter: bool = False
    definition: bool = False
    fixed: bool = False
    keywords: list[ast.keyword] = field(default_factory=list)  # of calls that name it

    @property
    def at(self) -> tuple[int, int]:
        """Line and column where it first stands."""
        places: list[Any] = [use.node for use in self.uses]
        return min((place.lineno, place.col_offset) for place in places)

    def reach(self) -> set[Scope]:
        """Return the scopes where no other variable may bind its name."""
        scopes = {self.scope}
        for scope in self.spelled_in:
            inner: Scope | None = scope
            while inner is not None and inner not in scopes:
                scopes.add(inner)
                inner = inner.parent
        return scopes


@dataclass(frozen=True)
class Shown:
    """Names that may be printed or looked up, of definitions and of parameters: these keep them."""

    definitions: frozenset[str] = frozenset()
    parameters: frozenset[str] = frozenset()

    def holds(self, local: Local) -> bool:
        """Return whether a local variable is one of them."""
        named = (self.definitions if local.definition else frozenset()) | (
            self.parameters if local.parameter else frozenset()
        )
        return local.name in named


NOTHING_SHOWN = Shown()


def rename_locals(
    tree: ast.Module, keep: Iterable[str] = (), shown: Shown = NOTHING_SHOWN
) -> ast.Module:
    """Rename the local variables of a parsed module in place; names in `keep` and shown ones stay.

    The nodes must know where they stand, as those of `ast.parse` do. Functions that look into their
    own scope (`locals()`, `exec`) keep their names.
    """
    visited = _Walk(tree)
    parameters = Parameters(tree)
    by_unit: dict[Scope, list[Local]] = defaultdict(list)
    for local in visited.locals.values():
        local.fixed |= local.name in keep or shown.holds(local)
        local.fixed |= local.scope.unit in visited.inspected
        if local.parameter and not local.fixed:
            local.keywords = parameters.keywords(local.scope, local.name)
            local.fixed = not parameters.renamable(local.scope, local.name)
        by_unit[local.scope.unit].append(local)
    taken = visited.elsewhere | {local.name for local in visited.locals.values() if local.fixed}
    free = [name for name in _short_names() if name not in taken]
    for members in by_unit.values():
        _number([local for local in members if not local.fixed], free)
    return tree


def _number(members: list[Local], free: list[str]) -> None:
    named: list[tuple[Local, set[Scope], str]] = []
    for local in sorted(members, key=lambda local: local.at):
        reach = local.reach()
        used = {
            name for other, others, name in named if other.scope in reach or local.scope in others
        }
        named.append((local, reach, next(name for name in free if name not in used)))
    for local, _, name in named:
        for use in local.uses:
            use.rename(name)
        for word in local.keywords:
            word.arg = name


def _short_names() -> list[str]:
    letters = string.ascii_uppercase + string.ascii_lowercase
    pairs = (a + b for a, b in itertools.product(letters, letters + string.digits))
    return [*letters, *(name for name in pairs if not keyword.iskeyword(name))]


@dataclass
class _Frame:
    """A scope while it is walked. scope: None for classes; names bound in it, by `global` not."""

    scope: Scope | None
    bound: set[str]
    redirected: set[str]


class _Walk:
    """Walk over a module that collects every local variable.

    elsewhere: names of the module, of builtins and of class bodies, which no local may take.
    inspected: the outermost scopes of functions that look into their own.
    """

    def __init__(self, tree: ast.Module) -> None:
        uses = module_uses(tree)
        self.elsewhere = {use.name for use in uses}
        self.locals: dict[tuple[Scope, str], Local] = {}
        self.inspected: set[Scope] = set()
        self.frames: list[_Frame] = []
        self.owner: ast.ClassDef | None = None
        for statement in tree.body:
            self.visit(statement)

    def resolve(self, name: str) -> Scope | None:
        """Return the function that a name belongs to; None for the module's, a class's or a builtin."""
        for depth, frame in enumerate(reversed(self.frames)):
            if name in frame.redirected:
                return None
            if name in frame.bound and (frame.scope is not None or not depth):
                return frame.scope
        return None

    def spell(self, name: str, node: ast.AST, where: str, index: int | None = None) -> Local | None:
        scope = self.resolve(name)
        if scope is None:
            return None
        local = self.locals.setdefault((scope, name), Local(name, scope))
        local.uses.append(Use(name, node, where, index))
        inner = next(frame.scope for frame in reversed(self.frames) if frame.scope is not None)
        local.spelled_in.add(inner)
        return local

    def define(self, local: Local | None) -> None:
        if local is not None:
            local.definition = True

    def inside(
        self, node: Any, bound: set[str], redirected: set[str], parts: Iterable[Any]
    ) -> None:
        parent = next((f.scope for f in reversed(self.frames) if f.scope is not None), None)
        scope = Scope(node, parent, self.owner)
        self.frames.append(_Frame(scope, bound, redirected))
        self.owner = None
        for part in parts:
            self.visit(part)
        self.owner = scope.owner
        self.frames.pop()

    def function(self, node: Any) -> None:
        body = node.body if isinstance(node.body, list) else [node.body]
        bound, redirected, outer = bound_names(body)
        names = arguments(node.args)
        bound |= {arg.arg for arg in names}
        self.inside(node, bound - redirected - outer, redirected, [*names, *body])

    def definition(self, node: Any) -> None:
        """Visit a definition behind its name; type parameters (PEP 695) keep theirs, which print."""
        for child in evaluated_around(node):
            self.visit(child)
        types = {parameter.name for parameter in type_parameters(node)}
        if types:
            self.elsewhere |= types
            parent = next((f.scope for f in reversed(self.frames) if f.scope is not None), None)
            scope = Scope(node, parent, self.owner)
            for name in types:
                self.locals[scope, name] = Local(name, scope, fixed=True)
            self.frames.append(_Frame(scope, types, set()))
        for child in evaluated_with_types(node):
            self.visit(child)
        if isinstance(node, ast.ClassDef):
            self.class_body(node)
        elif not isinstance(node, TYPE_ALIASES):
            self.function(node)
        if types:
            self.frames.pop()

    def class_body(self, node: ast.ClassDef) -> None:
        bound, redirected, outer = bound_names(node.body)
        bound -= redirected | outer
        self.elsewhere |= bound
        for name in bound:  # read before it is bound in the class, it may be the function's
            scope = self.resolve(name)
            if scope is not None:
                self.locals.setdefault((scope, name), Local(name, scope)).fixed = True
        self.frames.append(_Frame(None, bound, redirected))
        before, self.owner = self.owner, node
        for statement in node.body:
            self.visit(statement)
        self.owner = before
        self.frames.pop()

    def comprehension(self, node: Any) -> None:
        first, *others = node.generators
        self.visit(first.iter)
        results = [node.key, node.value] if isinstance(node, ast.DictComp) else [node.elt]
        rest = [part for g in others for part in (g.target, g.iter, *g.ifs)]
        bound = {
            part.id
            for generator in node.generators
            for part in walk(generator.target)
            if isinstance(part, ast.Name) and isinstance(part.ctx, ast.Store)
        }
        self.inside(node, bound, set(), [first.target, *first.ifs, *rest, *results])

    def visit(self, node: Any) -> None:
        if isinstance(node, TYPE_ALIASES):
            self.define(self.spell(node.name.id, node.name, "id"))
            self.definition(node)
            return
        if isinstance(node, (*FUNCTIONS, ast.ClassDef, ast.Lambda)):
            if not isinstance(node, ast.Lambda):
                self.define(self.spell(node.name, node, "name"))
            self.definition(node)
            return
        if isinstance(node, COMPREHENSIONS):
            self.comprehension(node)
            return
        if isinstance(node, ast.Name):
            self.spell(node.id, node, "id")
            if node.id in INSPECTING and self.frames:
                self.inspected |= {f.scope.unit for f in self.frames if f.scope is not None}
        elif isinstance(node, ast.arg):
            local = self.spell(node.arg, node, "arg")
            assert local is not None
            local.parameter = True
            return  # its annotation belongs outside
        elif isinstance(node, ast.Import | ast.ImportFrom):
            for alias in node.names:
                local = self.spell(alias_name(node, alias), alias, "asname")
                if local is not None and "." in alias.name and isinstance(node, ast.Import):
                    local.fixed |= alias.asname is None  # `import a.b as c` would bind another
        elif isinstance(node, ast.Global | ast.Nonlocal):
            for index, name in enumerate(node.names):
                self.spell(name, node, "names", index)
        elif isinstance(node, ast.ExceptHandler | ast.MatchAs | ast.MatchStar) and node.name:
            self.spell(node.name, node, "name")
        elif isinstance(node, ast.MatchMapping) and node.rest:
            self.spell(node.rest, node, "rest")
        for child in children(node):
            self.visit(child)
