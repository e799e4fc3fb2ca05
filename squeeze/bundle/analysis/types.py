"""The class of the program that an expression is an instance of, as far as annotations tell."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from squeeze.bundle.analysis.effects import import_origins
from squeeze.bundle.load.scopes import FUNCTIONS, arguments
from squeeze.bundle.load.tree import children, walk

OUTSIDE = "-"  # certainly no class of the program
FOREIGN = frozenset(("int float str bytes bool list dict tuple set Path Tensor Any").split())
Function = ast.FunctionDef | ast.AsyncFunctionDef
Scope = dict[str, str | None]


class Types:
    """Classes by name, what their attributes are annotated with, what functions return."""

    def __init__(self, tree: ast.Module, homes: dict[str, tuple[str, str]]) -> None:
        self.classes = {n.name: n for n in walk(tree) if isinstance(n, ast.ClassDef)}
        # annotations by names that only type checkers import are not resolved by the flattener
        self.imported = set(import_origins(tree))
        self.by_own_name: dict[str, list[str]] = {}
        for name, node in self.classes.items():
            if not is_protocol(node):
                self.by_own_name.setdefault(homes.get(name, ("", name))[1], []).append(name)
        self.modules = {
            alias.asname or alias.name.partition(".")[0]
            for node in walk(tree)
            if isinstance(node, ast.Import)
            for alias in node.names
        }
        self.returns = {
            n.name: self.named(n.returns) for n in tree.body if isinstance(n, FUNCTIONS)
        }
        self.attributes: dict[tuple[str, str], str | None] = {}
        for name, node in self.classes.items():
            for child in node.body:
                if isinstance(child, ast.AnnAssign) and isinstance(child.target, ast.Name):
                    self.attributes[name, child.target.id] = self.named(child.annotation)
                elif isinstance(child, FUNCTIONS):
                    self.attributes.setdefault((name, child.name), self.named(child.returns))
        for name, node in self.classes.items():
            for method in node.body:
                if isinstance(method, FUNCTIONS):
                    scope = self.scope(method, name, {})
                    for target, value in _assignments(method):
                        if (
                            isinstance(target, ast.Attribute)
                            and ast.unparse(target.value) == "self"
                        ):
                            self.attributes.setdefault((name, target.attr), self.of(value, scope))

    def named(self, annotation: ast.expr | None) -> str | None:
        """Return the class an annotation means; `X | None` and annotations in quotes included."""
        if isinstance(annotation, ast.Constant) and isinstance(annotation.value, str):
            try:
                annotation = ast.parse(annotation.value, mode="eval").body
            except SyntaxError:
                return None
        if isinstance(annotation, ast.BinOp):
            sides = [self.named(side) for side in (annotation.left, annotation.right)]
            classes = [side for side in sides if side in self.classes]
            return classes[0] if classes else None
        if isinstance(annotation, ast.Name):
            if annotation.id in self.classes:
                return annotation.id
            alike = self.by_own_name.get(annotation.id, [])
            if len(alike) == 1 and annotation.id not in self.imported:
                return alike[0]
            return OUTSIDE if annotation.id in FOREIGN - {"Any"} else None
        return None

    def scope(self, node: Function, owner: str | None, outer: Scope) -> Scope:
        """Return the classes of what a function's names stand for; None where that is not known."""
        kinds: Scope = {**outer}
        for arg in arguments(node.args):
            kinds[arg.arg] = self.named(arg.annotation)
        wrappers = {ast.unparse(w) for w in node.decorator_list}
        if owner is not None and node.args.args and not wrappers & {"staticmethod", "classmethod"}:
            kinds[node.args.args[0].arg] = owner
        for target, value in _assignments(node):
            for name, kind in self._bound(target, value, kinds):
                kinds[name] = kind if kinds.get(name, kind) == kind else None
        return kinds

    def _bound(
        self, target: ast.expr, value: ast.expr, scope: Scope
    ) -> Iterator[tuple[str, str | None]]:
        if isinstance(target, ast.Name):
            yield target.id, self.of(value, scope)
        elif isinstance(target, ast.Tuple):
            same = isinstance(value, ast.Tuple) and len(value.elts) == len(target.elts)
            for at, part in enumerate(target.elts):
                if isinstance(part, ast.Name):
                    yield part.id, self.of(value.elts[at], scope) if same else None  # type: ignore[attr-defined]

    def of(self, node: ast.expr, scope: Scope) -> str | None:
        """Return the name of an expression's class, OUTSIDE, or None where that is not known."""
        if isinstance(node, ast.Name):
            return scope.get(node.id, OUTSIDE if node.id in self.modules else None)
        if isinstance(node, ast.Attribute):
            base = self.of(node.value, scope)
            if base in self.classes:
                return self.attribute(base, node.attr)
            return OUTSIDE if base == OUTSIDE else None
        if isinstance(node, ast.Call):
            if isinstance(node.func, ast.Name):
                if node.func.id in self.classes:
                    return node.func.id
                return self.returns.get(node.func.id)
            if isinstance(node.func, ast.Attribute):
                called = node.func.value
                if isinstance(called, ast.Name) and called.id in self.classes:
                    return self.attribute(called.id, node.func.attr)
                return self.of(node.func, scope)
        if isinstance(node, ast.Constant | ast.JoinedStr | ast.List | ast.Dict | ast.Set):
            return OUTSIDE
        return None

    def attribute(self, name: str | None, attribute: str) -> str | None:
        """Return the annotated class of an attribute, or of what a method returns."""
        for kind in self.bases(name):
            if (kind, attribute) in self.attributes:
                return self.attributes[kind, attribute]
        return None

    def bases(self, name: str | None) -> list[str]:
        """Return the names of a class of the program and of those above it."""
        if name is None or name not in self.classes:
            return []
        names = [name]
        for base in self.classes[name].bases:
            if isinstance(base, ast.Name) and base.id != name:
                names += self.bases(base.id)
        return names


def is_protocol(node: ast.ClassDef) -> bool:
    """Return whether a class only describes others."""
    return any(isinstance(base, ast.Name) and base.id == "Protocol" for base in node.bases)


def _assignments(node: ast.AST) -> Iterator[tuple[ast.expr, ast.expr]]:
    """Yield (target, value) of a function's assignments, those of functions inside left out."""
    for child in children(node):
        if isinstance(child, (*FUNCTIONS, ast.ClassDef, ast.Lambda)):
            continue
        if isinstance(child, ast.Assign):
            for target in child.targets:
                yield target, child.value
                if isinstance(target, ast.Tuple) and isinstance(child.value, ast.Tuple):
                    yield from zip(target.elts, child.value.elts, strict=False)
        elif isinstance(child, ast.AnnAssign) and child.value is not None:
            yield child.target, child.value
        elif isinstance(child, ast.For | ast.comprehension):
            yield child.target, ast.Name("", ast.Load())
        elif isinstance(child, ast.With):
            for item in child.items:
                if item.optional_vars is not None:
                    yield item.optional_vars, ast.Name("", ast.Load())
        elif isinstance(child, ast.NamedExpr):
            yield child.target, child.value
        yield from _assignments(child)
