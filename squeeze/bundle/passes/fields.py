"""Attributes that are one constant in the whole program: `--define ModelConfig.skips=True`.

Every read of the attribute becomes the value, so that branches on it can be decided. Which reads are of
that class is told by annotations (see `types`); where they do not tell, no other class may have an
attribute of the name. The field itself stays in a dataclass, for whoever writes it to a file.
"""

from __future__ import annotations

import ast
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from squeeze.bundle.analysis.types import OUTSIDE, Scope, Types, is_protocol
from squeeze.bundle.load.flatten import Flat
from squeeze.bundle.load.fold import UNKNOWN, literal_node, value_of
from squeeze.bundle.load.modules import BundleError, Module
from squeeze.bundle.load.scopes import FUNCTIONS
from squeeze.bundle.load.tree import last_name, walk

# Attributes of values that every program has: without annotations nobody can tell them apart.
COMMON = frozenset(
    name for kind in (str, bytes, int, float, list, dict, set, tuple, object) for name in dir(kind)
)

LISTING = frozenset(("asdict", "astuple", "fields"))


@dataclass(frozen=True)
class _Field:
    """An attribute that is a constant. others: classes that have one of the same name."""

    said: str
    owner: str
    name: str
    value: object
    others: frozenset[str]

    @property
    def ambiguous(self) -> bool:
        return bool(self.others) or self.name in COMMON


def fix_fields(
    flat: Flat, fields: dict[str, object], given_up: Collection[str] = ()
) -> dict[str, BundleError]:
    """Put constants, in place, where attributes named "Class.field" are read; return those refused.

    Classes go by the names they have in their own modules. A call that makes an instance may give the
    field only that value. Refused, with an error that names the line, are attributes that do not exist,
    are assigned outside the constructor, or cannot be told from others of their name; those are left
    as they are. given_up: those that go from their dataclass, too, where nothing lists its fields.
    """
    types = Types(flat.tree, flat.homes)
    attributes = {
        kind: _attributes(node) for kind, node in types.classes.items() if not is_protocol(node)
    }
    refused: dict[str, BundleError] = {}
    wanted: dict[str, list[_Field]] = {}
    for said, value in fields.items():
        home, _, name = said.rpartition(".")
        binders = {kind for kind, names in attributes.items() if name in names}
        owners = {kind for kind in binders if flat.homes.get(kind, ("", kind))[1] == home}
        if len(owners) != 1:
            count = f"{len(owners)} such classes" if owners else "no such class and attribute"
            refused[said] = BundleError(f"--define {said}: the program has {count}")
            continue
        (owner,) = owners
        wanted.setdefault(name, []).append(
            _Field(said, owner, name, value, frozenset(binders - owners))
        )
    for dry in (True, False):
        fix = _Fix(types, flat.loading.origins, wanted, refused, dry)
        fix.visit(flat.tree)
    settled = [f for several in wanted.values() for f in several if f.said not in refused]
    _give_up(types, fix, [field for field in settled if field.said in given_up])
    ast.fix_missing_locations(flat.tree)
    return refused


def _give_up(types: Types, fix: _Fix, fields: list[_Field]) -> None:
    """Drop fields from dataclasses, in place, and from the calls that make instances."""
    owners = {field.owner for field in fields}
    for owner in sorted(owners):
        node, calls = types.classes[owner], fix.calls.get(owner, [])
        derived = any(owner in types.bases(kind) for kind in types.classes if kind != owner)
        listed = None in fix.listed or owner in fix.listed or derived
        if listed or any(call.args or any(w.arg is None for w in call.keywords) for call in calls):
            continue
        names = {field.name for field in fields if field.owner == owner}
        for call in calls:
            call.keywords = [word for word in call.keywords if word.arg not in names]
        node.body = [
            child
            for child in node.body
            if not (isinstance(child, ast.AnnAssign) and getattr(child.target, "id", "") in names)
            and not (isinstance(child, FUNCTIONS) and child.name in names)
        ] or [ast.Pass()]


def _attributes(node: ast.ClassDef) -> set[str]:
    """Return the names a class binds in its body, and on `self` in its methods."""
    names: set[str] = set()
    for child in node.body:
        if isinstance(child, FUNCTIONS):
            names.add(child.name)
            names |= {
                n.attr
                for n in walk(child)
                if isinstance(n, ast.Attribute)
                and isinstance(n.ctx, ast.Store)
                and ast.unparse(n.value) == "self"
            }
        else:
            names |= {
                n.id
                for n in walk(child)
                if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)
            }
    return names


class _Fix(ast.NodeTransformer):
    """Transformer that replaces reads; dry: only notes which fields are refused."""

    def __init__(
        self,
        types: Types,
        origins: Mapping[ast.AST, Module],
        wanted: dict[str, list[_Field]],
        refused: dict[str, BundleError],
        dry: bool,
    ) -> None:
        self.types, self.origins = types, origins
        self.wanted, self.refused, self.dry = wanted, refused, dry
        self.module: Module | None = None  # that the statement came from
        self.scopes: list[Scope] = [{}]
        self.classes: list[str | None] = [None]
        self.making: str | None = None  # the class in whose constructor this is
        self.calls: dict[str, list[ast.Call]] = {}  # that make instances, by class
        self.listed: set[str | None] = set()  # classes whose fields are listed, None for any

    def visit(self, node: ast.AST) -> Any:
        self.module = self.origins.get(node, self.module)
        return super().visit(node)

    def _refuse(self, field: _Field, node: ast.AST, text: str) -> None:
        where = self.module.where(node) if self.module is not None else "(bundle)"
        self.refused.setdefault(field.said, BundleError(f"{where}: {field.said} {text}"))

    def visit_ClassDef(self, node: ast.ClassDef) -> Any:
        self.classes.append(node.name)
        self.generic_visit(node)
        self.classes.pop()
        return node

    def visit_FunctionDef(self, node: Any) -> Any:
        owner, making = self.classes[-1], self.making
        self.making = owner if node.name == "__init__" else None
        self.scopes.append(self.types.scope(node, owner, self.scopes[-1]))
        self.classes.append(None)
        self.generic_visit(node)
        self.classes.pop()
        self.scopes.pop()
        self.making = making
        if not node.body:
            node.body = [ast.Pass()]
        return node

    visit_AsyncFunctionDef = visit_FunctionDef

    def visit_Assign(self, node: ast.Assign) -> Any:
        if self.making is None or len(node.targets) > 1:
            return self.generic_visit(node)
        target, value = node.targets[0], node.value
        pairs = [(target, value)]
        if (
            isinstance(target, ast.Tuple)
            and isinstance(value, ast.Tuple)
            and len(target.elts) == len(value.elts)
        ):
            pairs = list(zip(target.elts, value.elts, strict=True))
        variable = [(t, v) for t, v in pairs if not self._sets_constant(t)]
        if self.dry or len(variable) == len(pairs):
            for t, _ in variable:
                self.visit(t)
            node.value = self.visit(value)
            return node
        return [ast.copy_location(ast.Assign([t], self.visit(v)), node) for t, v in variable]

    def _sets_constant(self, node: ast.expr) -> bool:
        """Return whether a constructor gives a constant field its value here."""
        return (
            isinstance(node, ast.Attribute)
            and ast.unparse(node.value) == "self"
            and any(
                f.owner == self.making and f.said not in self.refused
                for f in self.wanted.get(node.attr, ())
            )
        )

    def visit_Attribute(self, node: ast.Attribute) -> Any:
        self.generic_visit(node)
        fields = [f for f in self.wanted.get(node.attr, ()) if f.said not in self.refused]
        if not fields:
            return node
        kind = self.types.of(node.value, self.scopes[-1])
        if kind == OUTSIDE:
            return node
        if kind in self.types.classes and is_protocol(self.types.classes[kind]):
            kind = None
        family = self.types.bases(kind)
        for field in fields:
            if kind is not None and field.owner not in family:
                continue
            if kind is None and field.ambiguous:
                others = ", ".join(sorted(field.others)) or "builtin values"
                self._refuse(
                    field,
                    node,
                    f"may be what is read here, or that of {others}: annotate what it is of",
                )
            elif not isinstance(node.ctx, ast.Load):
                self._refuse(field, node, "is assigned here: it is no constant")
            elif not self.dry:
                return ast.copy_location(literal_node(field.value), node)
        return node

    def visit_Call(self, node: ast.Call) -> Any:
        self.generic_visit(node)
        if last_name(node.func) in LISTING and node.args:
            self.listed.add(self.types.of(node.args[0], self.scopes[-1]))
        if isinstance(node.func, ast.Name):
            self.calls.setdefault(node.func.id, []).append(node)
        for argument in node.keywords if isinstance(node.func, ast.Name) else ():
            for field in self.wanted.get(argument.arg or "", ()):
                passed = value_of(argument.value)
                if field.owner == node.func.id and passed is not UNKNOWN and passed != field.value:  # type: ignore[attr-defined]
                    self._refuse(field, node, f"is {passed!r} here and not {field.value!r}")
        return node
