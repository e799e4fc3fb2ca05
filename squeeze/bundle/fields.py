"""Attributes that are one constant in the whole program: `--define ModelConfig.skips=True`.

Every read of the attribute becomes the value, so that branches on it can be decided. Which reads are of
that class is told by annotations (see `types`); where they do not tell, no other class may have an
attribute of the name. The field itself stays in a dataclass, for whoever writes it to a file.
"""

from __future__ import annotations

import ast
from typing import Any

from squeeze.bundle.fold import UNKNOWN, literal_node, value_of
from squeeze.bundle.modules import BundleError
from squeeze.bundle.scopes import FUNCTIONS
from squeeze.bundle.types import OUTSIDE, Scope, Types, is_protocol

# Attributes of values that every program has: without annotations nobody can tell them apart.
COMMON = frozenset(
    name for kind in (str, bytes, int, float, list, dict, set, tuple, object) for name in dir(kind)
)


def fix_field(
    tree: ast.Module, dotted: str, value: object, homes: dict[str, tuple[str, str]]
) -> None:
    """Put a constant, in place, where the attribute "Class.field" is read.

    homes: module and name of each name of the flat program, so that classes go by their own names. A
    call that makes an instance may give the field only that value. Raises BundleError, naming the
    line and changing nothing, for an attribute that does not exist, is assigned outside the constructor,
    or cannot be told from another one of its name.
    """
    types = Types(tree, homes)
    said, _, name = dotted.rpartition(".")
    binders = {
        kind for kind, node in types.classes.items()
        if name in _attributes(node) and not is_protocol(node)
    }  # fmt: skip
    owners = [kind for kind in binders if homes.get(kind, ("", kind))[1] == said]
    if len(owners) != 1:
        count = f"{len(owners)} such classes" if owners else "no such class and attribute"
        raise BundleError(f"--define {dotted}: the program has {count}")
    _Fix(types, owners[0], name, value, binders, dry=True).visit(tree)
    _Fix(types, owners[0], name, value, binders, dry=False).visit(tree)
    ast.fix_missing_locations(tree)


def _attributes(node: ast.ClassDef) -> set[str]:
    """What a class binds in its body, and on `self` in its methods."""
    found: set[str] = set()
    for child in node.body:
        if isinstance(child, FUNCTIONS):
            found.add(child.name)
            found |= {
                n.attr for n in ast.walk(child)
                if isinstance(n, ast.Attribute) and isinstance(n.ctx, ast.Store)
                and ast.unparse(n.value) == "self"
            }  # fmt: skip
        else:
            found |= {
                n.id
                for n in ast.walk(child)
                if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)
            }
    return found


class _Fix(ast.NodeTransformer):
    def __init__(
        self, types: Types, owner: str, name: str, value: object, binders: set[str], dry: bool
    ) -> None:
        self.dry = dry  # only look whether it can be done
        self.types, self.owner, self.name, self.value = types, owner, name, value
        others = binders - {owner}
        self.ambiguous = bool(others) or name in COMMON
        self.others = ", ".join(sorted(others)) or "builtin values"
        self.place = ""
        self.scopes: list[Scope] = [{}]
        self.classes: list[str | None] = [None]
        self.making = False  # in the constructor of the class

    def visit(self, node: ast.AST) -> Any:
        self.place = getattr(node, "_path", self.place)
        return super().visit(node)

    def _error(self, node: ast.AST, text: str) -> BundleError:
        return BundleError(
            f"{self.place}:{getattr(node, 'lineno', 0)}: {self.owner}.{self.name} {text}"
        )

    def visit_ClassDef(self, node: ast.ClassDef) -> Any:
        self.classes.append(node.name)
        self.generic_visit(node)
        self.classes.pop()
        return node

    def visit_FunctionDef(self, node: Any) -> Any:
        owner, making = self.classes[-1], self.making
        self.making = owner == self.owner and node.name == "__init__"
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
        if self.making:
            pairs = [(node.targets[0], node.value)]
            if isinstance(node.targets[0], ast.Tuple) and isinstance(node.value, ast.Tuple):
                pairs = list(zip(node.targets[0].elts, node.value.elts, strict=True))
            kept = [(t, v) for t, v in pairs if not self._is_mine(t)]
            if len(kept) < len(pairs) and len(node.targets) == 1 and self.dry:
                return node
            if len(kept) < len(pairs) and len(node.targets) == 1:
                return [self.visit(ast.copy_location(ast.Assign([t], v), node)) for t, v in kept]
        return self.generic_visit(node)

    def _is_mine(self, node: ast.expr) -> bool:
        return (
            isinstance(node, ast.Attribute) and node.attr == self.name
            and ast.unparse(node.value) == "self"
        )  # fmt: skip

    def visit_Attribute(self, node: ast.Attribute) -> Any:
        self.generic_visit(node)
        if node.attr != self.name:
            return node
        kind = self.types.of(node.value, self.scopes[-1])
        if kind in self.types.classes and is_protocol(self.types.classes[kind]):
            kind = None
        if kind == OUTSIDE:
            return node
        family = self.types.bases(kind)
        if kind is not None and self.owner not in family:
            return node
        if kind is None and self.ambiguous:
            raise self._error(
                node, f"may be what is read here, or that of {self.others}: annotate what it is of"
            )
        if not isinstance(node.ctx, ast.Load):
            raise self._error(node, "is assigned here: it is no constant")
        return node if self.dry else ast.copy_location(literal_node(self.value), node)

    def visit_Call(self, node: ast.Call) -> Any:
        self.generic_visit(node)
        if isinstance(node.func, ast.Name) and node.func.id == self.owner:
            for argument in node.keywords:
                given = value_of(argument.value) if argument.arg == self.name else UNKNOWN
                if given is not UNKNOWN and given != self.value:
                    raise self._error(node, f"is {given!r} here and not {self.value!r}")
        return node
