"""Drop statements without effects, and make classes shorter that do the same."""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterable
from typing import Any

from squeeze.bundle.analysis.effects import Effects
from squeeze.bundle.analysis.readers import LOOKING_UP, SCOPES, Readers, look_ups
from squeeze.bundle.load.fold import Filling, literal_node
from squeeze.bundle.load.scopes import FUNCTIONS, arguments, bound_names
from squeeze.bundle.load.tree import walk

INSPECTING = LOOKING_UP | SCOPES  # what looks into its scope reads every name there


def without_idle_statements(tree: ast.Module, keep: tuple[str, ...] = ()) -> None:
    """Drop, in place, statements without effects, and assignments to names that nothing reads.

    An expression that could only have failed counts as without effects. keep: names of
    functions, methods and classes that somebody else may set, override or derive from.
    """
    _Idle(tree, keep).visit(tree)
    _drop_idle_methods(tree, keep)


class _Idle(Filling):
    def __init__(self, tree: ast.Module, keep: tuple[str, ...]) -> None:
        self.effects = Effects(tree, keep)
        self.frames = any(place.frames for place in look_ups(tree))
        self.local: list[frozenset[str]] = []  # names of functions that are never read
        self.hidden: list[frozenset[str]] = []
        self.guarded = False  # in a block whose failures something handles

    def visit_Try(self, node: Any) -> Any:
        outer, self.guarded = self.guarded, bool(node.handlers)
        node.body = [part for child in node.body if (part := self.visit(child)) is not None]
        node.body = node.body or [ast.Pass()]
        self.guarded = outer
        body, node.body = node.body, []
        self.generic_visit(node)
        node.body = body
        return node

    visit_TryStar = visit_Try

    def _harmless(self, node: ast.expr) -> bool:
        if self.guarded and not isinstance(node, ast.Constant | ast.Lambda):
            return False  # that it may fail is what it is there for
        hidden = frozenset[str]().union(*self.hidden)
        return self.effects.harmless(node, hidden)

    def visit_FunctionDef(self, node: Any) -> Any:
        bound, redirected, outer = bound_names(node.body)
        own = bound - redirected - outer
        read = {
            n.id for n in walk(node) if isinstance(n, ast.Name) and not isinstance(n.ctx, ast.Store)
        }
        # `a += b` reads a, and may change what another name means, too
        changed = [n.target for n in walk(node) if isinstance(n, ast.AugAssign)]
        read |= {target.id for target in changed if isinstance(target, ast.Name)}
        # nonlocal names of functions inside are read or written there
        read |= {n for part in walk(node) if isinstance(part, ast.Nonlocal) for n in part.names}
        scoped = {n.id for n in walk(node) if isinstance(n, ast.Name)} & INSPECTING
        compiled = (
            self.frames
            or bool(scoped)
            or any("jit" in ast.unparse(wrapper) for wrapper in node.decorator_list)
        )
        parameters = {arg.arg for arg in arguments(node.args)}
        self.local.append(frozenset() if compiled else frozenset(own - read))
        self.hidden.append(frozenset(own | parameters))
        self.generic_visit(node)
        self.local.pop()
        self.hidden.pop()
        return node

    visit_AsyncFunctionDef = visit_FunctionDef

    def visit_ClassDef(self, node: ast.ClassDef) -> Any:
        self.local.append(frozenset())
        self.generic_visit(node)
        self.local.pop()
        return node

    def visit_Expr(self, node: ast.Expr) -> Any:
        if not self.local or isinstance(node.value, ast.Constant):
            return node  # docstrings are the shaker's affair
        return None if self._harmless(node.value) else node

    def visit_Assign(self, node: ast.Assign) -> Any:
        if self.local and all(
            isinstance(target, ast.Name) and target.id in self.local[-1] for target in node.targets
        ):
            return None if self._harmless(node.value) else ast.Expr(node.value)
        if self.local and len(node.targets) == 1:
            self._drop_side_by_side(node)
        return node

    def _drop_side_by_side(self, node: ast.Assign) -> None:
        """Drop names that nothing reads from `a, b = x, y`."""
        target, value = node.targets[0], node.value
        if not isinstance(target, ast.Tuple) or not isinstance(value, ast.Tuple):
            return
        if any(isinstance(part, ast.Starred) for part in (*target.elts, *value.elts)):
            return
        kept = [
            (name, given)
            for name, given in zip(target.elts, value.elts, strict=True)
            if not (
                isinstance(name, ast.Name) and name.id in self.local[-1] and self._harmless(given)
            )
        ]
        if len(kept) == 1:
            node.targets, node.value = [kept[0][0]], kept[0][1]
        elif kept and len(kept) < len(target.elts):
            target.elts, value.elts = [list(part) for part in zip(*kept, strict=True)]

    def visit_If(self, node: ast.If) -> Any:
        self.generic_visit(node)
        if _is_empty(node.orelse):
            node.orelse = []
        if _is_empty(node.body):
            if not node.orelse:
                return None if self.local and self._harmless(node.test) else ast.Expr(node.test)
            node.test, node.body, node.orelse = _negated(node.test), node.orelse, []
        return node

    def visit_For(self, node: ast.For) -> Any:
        self.generic_visit(node)
        empty = _is_empty(node.body) and not node.orelse and isinstance(node.target, ast.Name)
        if not (empty and self.local and node.target.id in self.local[-1]):  # type: ignore[attr-defined]
            return node
        # an object that is gone through may do its work meanwhile
        idle = self.effects.container(node.iter) and self._harmless(node.iter)
        return None if idle else node


def _is_empty(block: list[ast.stmt]) -> bool:
    return all(isinstance(statement, ast.Pass) for statement in block)


def _negated(test: ast.expr) -> ast.expr:
    opposite = {
        ast.Eq: ast.NotEq,
        ast.NotEq: ast.Eq,
        ast.Is: ast.IsNot,
        ast.IsNot: ast.Is,
        ast.In: ast.NotIn,
        ast.NotIn: ast.In,
    }
    if isinstance(test, ast.UnaryOp) and isinstance(test.op, ast.Not):
        return test.operand
    if isinstance(test, ast.Compare) and len(test.ops) == 1 and type(test.ops[0]) in opposite:
        return ast.Compare(test.left, [opposite[type(test.ops[0])]()], test.comparators)
    return ast.UnaryOp(ast.Not(), test)


def _drop_idle_methods(tree: ast.Module, keep: tuple[str, ...]) -> None:
    """Drop `__post_init__` that does nothing, in classes without one above."""
    names = {node.name for node in walk(tree) if isinstance(node, ast.ClassDef)}
    for node in walk(tree):
        if isinstance(node, ast.ClassDef) and node.name not in keep:
            bases = {base.id if isinstance(base, ast.Name) else "?" for base in node.bases}
            if not bases & (names | {"?"}):
                node.body = [child for child in node.body if not _is_idle(child)] or [ast.Pass()]


def _is_idle(node: ast.stmt) -> bool:
    named = isinstance(node, FUNCTIONS) and node.name == "__post_init__"
    return named and _is_empty(node.body)  # type: ignore[attr-defined]


def shorten_classes(tree: ast.Module, keep: tuple[str, ...] = ()) -> None:
    """Shorten classes, in place, to what does the same as long as nothing reads their hints.

    Annotations of fields become 0 and `abc` goes; `@dataclass(frozen=True)` gets a name when it is
    written often. keep: names of classes that stay as they are, and so do those they inherit from.
    """
    if not _reads_hints(tree):
        classes = [node for node in walk(tree) if isinstance(node, ast.ClassDef)]
        kept = _with_bases(classes, keep)
        shortened = [node for node in classes if node.name not in kept]
        for node in shortened:
            _shorten_fields(node)
        _without_abstract(tree, shortened)
    _name_decorators(tree)


def _reads_hints(tree: ast.Module) -> bool:
    """Return whether the program reads annotations, or the type of a dataclass's field."""
    named = {getattr(n, "attr", getattr(n, "id", None)) for n in walk(tree)}
    if "__dataclass_fields__" in named or Readers(tree).every_hint:
        return True
    loops = [
        (node.target, node.iter)
        for node in walk(tree)
        if isinstance(node, ast.For | ast.comprehension)
    ]
    fields = {
        n.id
        for target, source in loops
        if "fields" in {getattr(n, "attr", getattr(n, "id", "")) for n in walk(source)}
        for n in walk(target)
        if isinstance(n, ast.Name)
    } | {"field"}
    return any(
        isinstance(node, ast.Attribute)
        and node.attr == "type"
        and isinstance(node.value, ast.Name)
        and node.value.id in fields
        for node in walk(tree)
    )


def _shorten_fields(node: ast.ClassDef) -> None:
    is_record = bool(node.decorator_list or node.bases)
    kept: list[ast.stmt] = []
    for child in node.body:
        if isinstance(child, ast.AnnAssign) and isinstance(child.target, ast.Name):
            text = ast.unparse(child.annotation)
            if "ClassVar" in text or "InitVar" in text or "KW_ONLY" in text:
                kept.append(child)
                continue
            if not is_record:  # nothing makes a field of it
                if child.value is not None:
                    kept.append(ast.Assign([child.target], child.value))
                continue
            child.annotation = literal_node(0)
        kept.append(child)
    node.body = kept or [ast.Pass()]


def _with_bases(classes: list[ast.ClassDef], keep: Iterable[str]) -> set[str]:
    """Return names of classes and of all that these inherit from."""
    bases = {node.name: {getattr(base, "id", "") for base in node.bases} for node in classes}
    queue, names = list(keep), set[str]()
    while queue:
        name = queue.pop()
        if name not in names:
            names.add(name)
            queue += bases.get(name, ())
    return names


def _without_abstract(tree: ast.Module, classes: list[ast.ClassDef]) -> None:
    """Drop empty abstract methods, and bases that only forbid to make an instance."""
    inherited = Counter(
        base.id
        for n in walk(tree)
        if isinstance(n, ast.ClassDef)
        for base in n.bases
        if isinstance(base, ast.Name)
    )
    for node in classes:
        plain = [b for b in node.bases if not (isinstance(b, ast.Name) and b.id == "ABC")]
        if len(plain) == len(node.bases) or node.keywords:
            continue
        node.bases = plain
        kept = []
        for child in node.body:
            if isinstance(child, FUNCTIONS):
                marks = [
                    w for w in child.decorator_list if ast.unparse(w).endswith("abstractmethod")
                ]
                if marks and _is_empty(child.body) and inherited[node.name]:
                    continue
                child.decorator_list = [w for w in child.decorator_list if w not in marks]
            kept.append(child)
        node.body = kept or [ast.Pass()]


def _name_decorators(tree: ast.Module) -> None:
    """Make a decorator with arguments that several classes share once, and name it."""
    calls: dict[str, list[Any]] = {}
    for node in tree.body:
        if isinstance(node, ast.ClassDef):
            for wrapper in node.decorator_list:
                if isinstance(wrapper, ast.Call) and ast.unparse(wrapper.func) == "dataclass":
                    calls.setdefault(ast.unparse(wrapper), []).append(node)
    used_names = {n.id for n in walk(tree) if isinstance(n, ast.Name)}
    for number, (text, nodes) in enumerate(sorted(calls.items())):
        name = f"record_{number}"
        if len(nodes) < 2 or name in used_names:
            continue
        assignment = ast.parse(f"{name} = {text}").body[0]
        tree.body.insert(min(tree.body.index(node) for node in nodes), assignment)
        for node in nodes:
            node.decorator_list = [
                ast.Name(name, ast.Load()) if ast.unparse(w) == text else w
                for w in node.decorator_list
            ]
