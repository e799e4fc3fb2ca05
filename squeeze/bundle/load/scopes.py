"""Identifiers of a syntax tree: those that mean a name of the module, and those that are local.

Python's scoping rules as the language reference states them (section 4.2, "Naming and binding"):
function scopes nest, class scopes are invisible to the functions inside them, comprehensions are
functions whose first iterable is evaluated outside, `global` and `nonlocal` redirect.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from squeeze.bundle.load.tree import children, walk

FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
# Python 3.12 and later
TYPE_ALIASES: tuple[Any, ...] = tuple(
    getattr(ast, name) for name in ("TypeAlias",) if hasattr(ast, name)
)
# Nodes that bind, redirect or read a name themselves, or open a scope.
NAMING = frozenset((
    *FUNCTIONS, *COMPREHENSIONS, *TYPE_ALIASES, ast.ClassDef, ast.Lambda, ast.Name, ast.Import,
    ast.ImportFrom, ast.Global, ast.Nonlocal, ast.ExceptHandler, ast.MatchAs, ast.MatchStar,
    ast.MatchMapping,
))  # fmt: skip


@dataclass
class Use:
    """One occurrence of a module-level name, readable and writable in place.

    node: the tree node; field_name, index: where in it the identifier stands. either: a class body
    reads a name that it also binds, so that it may be the module's or its own.
    """

    name: str
    node: ast.AST
    field_name: str
    index: int | None = None
    stores: bool = False
    either: bool = False

    def rename(self, new: str) -> None:
        """Put another identifier there."""
        if self.index is None:
            setattr(self.node, self.field_name, new)
        else:
            getattr(self.node, self.field_name)[self.index] = new


@dataclass
class _Frame:
    kind: str  # module, class, function, or types: that of type parameters
    bound: set[str] = field(default_factory=set)
    redirected: set[str] = field(default_factory=set)  # declared global


def bound_names(body: Iterable[ast.AST]) -> tuple[set[str], set[str], set[str]]:
    """Return (bound, global, nonlocal) names of one scope; nested scopes are not entered."""
    bound, redirected, outer = set[str](), set[str](), set[str]()

    def visit(node: Any) -> None:
        if node.__class__ not in NAMING:
            for child in children(node):
                visit(child)
            return
        if isinstance(node, (*FUNCTIONS, ast.ClassDef)):
            bound.add(node.name)
            for child in evaluated_outside(node):
                visit(child)
            return
        if isinstance(node, ast.Lambda):
            for child in evaluated_outside(node):
                visit(child)
            return
        if isinstance(node, COMPREHENSIONS):
            # an assignment expression in a comprehension binds in the scope around it
            bound.update(
                n.target.id
                for n in walk(node)
                if isinstance(n, ast.NamedExpr) and isinstance(n.target, ast.Name)
            )
            return
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store | ast.Del):
            bound.add(node.id)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            bound.update(alias_name(node, alias) for alias in node.names)
        elif isinstance(node, ast.Global):
            redirected.update(node.names)
        elif isinstance(node, ast.Nonlocal):
            outer.update(node.names)
        elif (
            isinstance(node, ast.ExceptHandler | ast.MatchAs | ast.MatchStar)
            and node.name is not None
        ):
            bound.add(node.name)
        elif isinstance(node, ast.MatchMapping) and node.rest is not None:
            bound.add(node.rest)
        for child in children(node):
            visit(child)

    for node in body:
        visit(node)
    return bound, redirected, outer


def alias_name(node: ast.Import | ast.ImportFrom, alias: ast.alias) -> str:
    """Return the identifier an import binds: `import a.b` binds a."""
    if alias.asname:
        return alias.asname
    return alias.name.partition(".")[0] if isinstance(node, ast.Import) else alias.name


def top_level(node: ast.AST) -> Iterator[Any]:
    """Yield the imports that run in the module's own scope, those in blocks included."""
    for child in children(node):
        if isinstance(child, ast.Import | ast.ImportFrom):
            yield child
        elif not isinstance(child, (*FUNCTIONS, ast.ClassDef, ast.Lambda)):
            yield from top_level(child)


def arguments(args: ast.arguments) -> list[ast.arg]:
    """Return all parameters of a function, in no particular order."""
    rest = [arg for arg in (args.vararg, args.kwarg) if arg is not None]
    return [*args.posonlyargs, *args.args, *args.kwonlyargs, *rest]


def evaluated_outside(node: ast.AST) -> Iterator[ast.AST]:
    """Yield the parts of a definition that are evaluated in the scope around it."""
    if isinstance(node, ast.Lambda):
        yield from node.args.defaults
        yield from (default for default in node.args.kw_defaults if default is not None)
    elif isinstance(node, FUNCTIONS):
        yield from node.decorator_list
        yield from node.args.defaults
        yield from (default for default in node.args.kw_defaults if default is not None)
        yield from (a.annotation for a in arguments(node.args) if a.annotation is not None)
        if node.returns is not None:
            yield node.returns
    elif isinstance(node, ast.ClassDef):
        yield from node.decorator_list
        yield from node.bases
        yield from (keyword.value for keyword in node.keywords)


def type_parameters(node: ast.AST) -> list[Any]:
    """Return the type parameters of a definition or alias (PEP 695); none before Python 3.12."""
    return list(getattr(node, "type_params", ()))


def evaluated_around(node: ast.AST) -> list[ast.AST]:
    """Return the parts of a definition that do not see its type parameters."""
    if isinstance(node, ast.ClassDef):
        return list(node.decorator_list)
    if isinstance(node, TYPE_ALIASES):
        return []
    defaults = [*node.args.defaults, *node.args.kw_defaults]  # type: ignore[attr-defined]
    around = [*getattr(node, "decorator_list", []), *defaults]
    return [part for part in around if part is not None]


def evaluated_with_types(node: ast.AST) -> list[ast.AST]:
    """Return the parts of a definition or alias that see its type parameters, but for its body."""
    parts = [part for parameter in type_parameters(node) for part in children(parameter)]
    if isinstance(node, TYPE_ALIASES):
        return [*parts, node.value]
    around = {id(part) for part in evaluated_around(node)}
    return [*parts, *(part for part in evaluated_outside(node) if id(part) not in around)]


def module_uses(tree: ast.Module) -> list[Use]:
    """Return every identifier that means a module-level name or a builtin, in order of appearance."""
    uses: list[Use] = []
    walk_scopes(tree.body, uses.append)
    return uses


def walk_scopes(body: Iterable[ast.AST], on_use: Callable[[Use], None]) -> None:
    """Call on_use for every identifier in module-level statements that is not local."""
    frames = [_Frame("module")]

    def is_module(name: str) -> bool:
        for depth, frame in enumerate(reversed(frames)):
            if frame.kind == "module" or name in frame.redirected:
                return True
            if frame.kind == "class" and depth and not (depth == 1 and frames[-1].kind == "types"):
                continue
            if name in frame.bound:
                return False
        return True

    def use(
        name: str, node: ast.AST, where: str, index: int | None = None, store: bool = False
    ) -> None:
        if is_module(name):
            on_use(Use(name, node, where, index, store))

    def inside(frame: _Frame, nodes: Iterable[ast.AST]) -> None:
        frames.append(frame)
        for node in nodes:
            visit(node)
        frames.pop()

    def function(node: ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda) -> None:
        inner = node.body if isinstance(node.body, list) else [node.body]
        bound, redirected, outer = bound_names(inner)
        bound |= {arg.arg for arg in arguments(node.args)}
        inside(_Frame("function", bound - redirected - outer, redirected), inner)

    def definition(node: Any) -> None:
        if not isinstance(node, TYPE_ALIASES):
            use(node.name, node, "name", store=True)
        for child in evaluated_around(node):
            visit(child)
        types = {parameter.name for parameter in type_parameters(node)}
        if types:
            frames.append(_Frame("types", types))
        for child in evaluated_with_types(node):
            visit(child)
        if isinstance(node, ast.ClassDef):
            bound, redirected, outer = bound_names(node.body)
            inside(_Frame("class", bound - redirected - outer, redirected), node.body)
        elif isinstance(node, FUNCTIONS):
            function(node)
        if types:
            frames.pop()

    def visit(node: Any) -> None:
        if node.__class__ not in NAMING:
            for child in children(node):
                visit(child)
            return
        if isinstance(node, TYPE_ALIASES):
            visit(node.name)
            definition(node)
            return
        if isinstance(node, (*FUNCTIONS, ast.ClassDef)):
            definition(node)
            return
        if isinstance(node, ast.Lambda):
            for child in evaluated_outside(node):
                visit(child)
            function(node)
            return
        if isinstance(node, COMPREHENSIONS):
            first, *others = node.generators
            visit(first.iter)
            targets = [generator.target for generator in node.generators]
            bound = {n.id for t in targets for n in walk(t) if isinstance(n, ast.Name)}
            results = [node.key, node.value] if isinstance(node, ast.DictComp) else [node.elt]
            rest = [*first.ifs, *[part for g in others for part in (g.iter, *g.ifs)]]
            inside(_Frame("function", bound), [*targets, *rest, *results])
            return
        if isinstance(node, ast.Name):
            reads = isinstance(node.ctx, ast.Load)
            use(node.id, node, "id", store=not reads)
            if reads and frames[-1].kind == "class" and node.id in frames[-1].bound:
                on_use(Use(node.id, node, "id", either=True))
        elif isinstance(node, ast.Import | ast.ImportFrom):
            for alias in node.names:
                use(alias_name(node, alias), alias, "asname", store=True)
        elif isinstance(node, ast.Global):
            for index, name in enumerate(node.names):
                on_use(Use(name, node, "names", index))
        elif isinstance(node, ast.ExceptHandler | ast.MatchAs | ast.MatchStar) and node.name:
            use(node.name, node, "name", store=True)
        elif isinstance(node, ast.MatchMapping) and node.rest:
            use(node.rest, node, "rest", store=True)
        for child in children(node):
            visit(child)

    for statement in body:
        visit(statement)
