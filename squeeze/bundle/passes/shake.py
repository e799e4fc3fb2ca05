"""Drop what the program can never reach: definitions, methods, parameters' annotations, docstrings.

Reachability starts from statements with effects. A top-level definition without effects of its own
(`def`, `class`, an import, an assignment of a plain value) stays only if something that stays names
it. A method stays if its class stays and anything that stays reads an attribute of that name, or the
class inherits from outside, where callers cannot be seen.
"""

from __future__ import annotations

import ast
import builtins
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from typing import Any

from squeeze.bundle.analysis.effects import import_origins
from squeeze.bundle.load.scopes import FUNCTIONS, arguments, bound_names, walk_scopes

# Calls that only make a value: nobody misses them when the value is not used.
PURE_BUILTINS = frozenset((
    "bool", "bytes", "bytearray", "classmethod", "complex", "dict", "enumerate", "float", "frozenset",
    "int", "len", "list", "max", "memoryview", "min", "object", "pow", "property", "range", "repr",
    "reversed", "round", "set", "slice", "sorted", "staticmethod", "str", "sum", "super", "tuple",
    "type", "zip",
))  # fmt: skip
PURE_MODULES = (
    "abc", "collections", "contextlib", "dataclasses", "enum", "functools", "itertools", "logging",
    "math", "numba", "numpy", "operator", "pathlib", "re", "struct", "torch", "types", "typing",
)  # fmt: skip
EFFECTS = frozenset(("seed", "manual_seed", "seterr", "basicConfig", "register"))  # of those above
PLAIN_BASES = frozenset(("object", "Protocol", "Generic", "ABC", "NamedTuple"))


def shake(tree: ast.Module, keep: Iterable[str] = (), strip: bool = True) -> ast.Module:
    """The tree (changed in place) with only what can be reached from effects and from `keep`.

    keep: names of definitions or methods that stay whatever reads them. strip: whether docstrings and
    annotations go.
    """
    if strip:
        _strip(tree)
    while True:
        before = _size(tree)
        _shake_once(tree, set(keep))
        if _size(tree) == before:
            return ast.fix_missing_locations(tree)


def _size(tree: ast.Module) -> int:
    return sum(1 for _ in ast.walk(tree))


def _shake_once(tree: ast.Module, keep: set[str]) -> None:
    imported = import_origins(tree)
    classes = {node.name: node for node in tree.body if isinstance(node, ast.ClassDef)}
    binders: dict[str, list[ast.stmt]] = defaultdict(list)
    reached: dict[int, ast.stmt] = {}
    reads: dict[int, set[str]] = {}
    queue: list[ast.stmt] = []
    pure = _Purity(imported, classes)
    for statement in tree.body:
        names = _bound_by(statement)
        for name in names:
            binders[name].append(statement)
        if not (names and pure.definition(statement)) or names & keep:
            queue.append(statement)
    while queue:
        statement = queue.pop()
        if id(statement) in reached:
            continue
        reached[id(statement)] = statement
        reads[id(statement)] = _reads(statement)
        for name in reads[id(statement)]:
            queue += binders.get(name, [])
    tree.body = [statement for statement in tree.body if id(statement) in reached]
    readers = Counter(name for statement in tree.body for name in reads[id(statement)])
    for statement in tree.body:
        if isinstance(statement, ast.Import | ast.ImportFrom):
            own = reads[id(statement)]  # what an import binds is among it
            if statement.names and getattr(statement, "module", "") != "__future__":
                bound = [(alias, _import_name(alias)) for alias in statement.names]
                kept = [a for a, n in bound if n in keep or readers[n] > (n in own)]
                statement.names = kept or statement.names
    _shake_methods(tree, classes, keep)


def _shake_methods(tree: ast.Module, classes: dict[str, ast.ClassDef], keep: set[str]) -> None:
    """Methods and class-level names that nothing reads, of classes all of whose bases are known.

    What methods read counts only once they are read themselves.
    """
    prefixes = computed_attributes(tree)
    if "" in prefixes:
        return
    waiting: dict[int, ast.stmt] = {}
    for node in classes.values():
        if _known_bases(node, classes):
            for child in node.body:
                dunder = isinstance(child, FUNCTIONS) and child.name.startswith("__")
                if isinstance(child, FUNCTIONS) and not (dunder and child.name.endswith("__")):
                    waiting[id(child)] = child
    read = set(keep)
    _read_names(tree, waiting, read)
    for node in classes.values():  # a class body reads its own names plainly
        for child in node.body:
            if id(child) not in waiting:
                read |= {n.id for n in ast.walk(child) if isinstance(n, ast.Name)}
    while True:
        found = [
            child for child in waiting.values()
            if child.name in read or child.name.startswith(tuple(prefixes))  # type: ignore[attr-defined]
        ]  # fmt: skip
        if not found:
            break
        for child in found:
            del waiting[id(child)]
            _read_names(child, waiting, read)
            for wrapper in child.decorator_list:  # type: ignore[attr-defined]
                read |= {n.id for n in ast.walk(wrapper) if isinstance(n, ast.Name)}
    for node in classes.values():
        node.body = [c for c in node.body if id(c) not in waiting] or [ast.Pass()]


def _read_names(tree: ast.AST, without: dict[int, ast.stmt], read: set[str]) -> None:
    """Add the names of attributes that code may read; methods in `without` are passed over."""
    stack = [tree]
    while stack:
        node = stack.pop()
        stack += [child for child in ast.iter_child_nodes(node) if id(child) not in without]
        if isinstance(node, ast.Attribute):
            read.add(node.attr)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            if re.fullmatch(r"[\w.]+", node.value) or "{" in node.value:  # no text for people
                read.update(re.findall(r"\w+", node.value))
        elif isinstance(node, ast.keyword) and node.arg:
            read.add(node.arg)
        elif isinstance(node, ast.MatchClass):
            read.update(node.kwd_attrs)


def computed_attributes(tree: ast.Module) -> set[str]:
    """What the names of attributes looked up by computed names begin with; '' when nothing is known."""
    found: set[str] = set()
    for node in ast.walk(tree):
        if not (isinstance(node, ast.Call) and len(node.args) > 1):
            continue
        called = node.func.id if isinstance(node.func, ast.Name) else ""
        if called in ("getattr", "setattr", "hasattr", "delattr"):
            found |= {_beginning(node.args[1])} - {None}  # type: ignore[arg-type]
    return found


def _beginning(node: ast.expr) -> str | None:
    """The known beginning of a string expression; None for a constant, which counts as read."""
    if isinstance(node, ast.Constant):
        return None
    if isinstance(node, ast.JoinedStr) and node.values and isinstance(node.values[0], ast.Constant):
        return str(node.values[0].value)
    if isinstance(node, ast.BinOp) and isinstance(node.left, ast.Constant):
        text = str(node.left.value)
        return text.partition("%")[0] if isinstance(node.op, ast.Mod) else text
    return ""


def _known_bases(node: ast.ClassDef, classes: dict[str, ast.ClassDef]) -> bool:
    for base in node.bases:
        root = base.value if isinstance(base, ast.Subscript) else base
        name = root.id if isinstance(root, ast.Name) else getattr(root, "attr", "")
        if name in classes and classes[name] is not node:
            if not _known_bases(classes[name], classes):
                return False
        elif name not in PLAIN_BASES and not _is_exception(name):
            return False
    return all(keyword.arg == "metaclass" for keyword in node.keywords) or not node.keywords


def _is_exception(name: str) -> bool:
    kind = getattr(builtins, name, None)
    return isinstance(kind, type) and issubclass(kind, BaseException)


def _import_name(alias: ast.alias) -> str:
    return alias.asname or alias.name.partition(".")[0]


def _bound_by(statement: ast.stmt) -> set[str]:
    return bound_names([statement])[0]


def _reads(statement: ast.stmt) -> set[str]:
    """Module-level names and builtins a statement's code refers to, itself aside."""
    cached: set[str] | None = getattr(statement, "_reads", None)
    if cached is not None and getattr(statement, "_count", 0) == _count(statement):
        return cached
    found: set[str] = set()
    walk_scopes([statement], lambda use: found.add(use.name))
    statement._reads, statement._count = found, _count(statement)  # type: ignore[attr-defined]
    return found


def _count(statement: ast.stmt) -> int:
    return sum(1 for _ in ast.walk(statement))


class _Purity:
    """Whether running a statement does nothing but bind its names."""

    def __init__(self, imported: dict[str, str], classes: dict[str, ast.ClassDef]) -> None:
        self.imported, self.classes = imported, classes

    def definition(self, node: ast.stmt) -> bool:
        if isinstance(node, ast.Import):
            return True
        if isinstance(node, ast.ImportFrom):
            return node.module != "__future__" and all(alias.name != "*" for alias in node.names)
        if isinstance(node, FUNCTIONS):
            defaults = [*node.args.defaults, *(d for d in node.args.kw_defaults if d is not None)]
            return all(map(self.value, [*node.decorator_list, *defaults]))
        if isinstance(node, ast.ClassDef):
            outside = [*node.decorator_list, *node.bases, *(k.value for k in node.keywords)]
            return self._plain_class(node) and all(map(self.value, outside)) and all(
                isinstance(child, ast.Pass) or _is_docstring(child) or self.definition(child)
                for child in node.body
            )  # fmt: skip
        if isinstance(node, ast.Assign):
            names = all(isinstance(n, ast.Name | ast.Tuple) for n in node.targets)
            return names and self.value(node.value)
        if isinstance(node, ast.AnnAssign):
            return isinstance(node.target, ast.Name) and (
                node.value is None or self.value(node.value)
            )
        return isinstance(node, ast.Pass)

    def _plain_class(self, node: ast.ClassDef) -> bool:
        """No base of ours that acts on being inherited from."""
        for base in node.bases:
            parent = self.classes.get(base.id) if isinstance(base, ast.Name) else None
            if parent is not None and parent is not node:
                hooks = {c.name for c in parent.body if isinstance(c, FUNCTIONS)}
                if "__init_subclass__" in hooks or not self._plain_class(parent):
                    return False
        return True

    def value(self, node: ast.expr) -> bool:
        for part in ast.walk(node):
            if isinstance(part, ast.Await | ast.Yield | ast.YieldFrom | ast.NamedExpr):
                return False
            if isinstance(part, ast.Call) and not self._call(part.func):
                return False
        return True

    def _call(self, function: ast.expr) -> bool:
        if isinstance(function, ast.Call):  # a decorator with arguments
            return self._call(function.func)
        root, attributes = function, list[str]()
        while isinstance(root, ast.Attribute):
            attributes.append(root.attr)
            root = root.value
        if isinstance(root, ast.Constant):
            return True  # a method of a literal
        if not isinstance(root, ast.Name) or EFFECTS & set(attributes):
            return False
        origin = self.imported.get(root.id)
        if origin is not None:
            dotted = ".".join([origin, *reversed(attributes)])
            return dotted.partition(".")[0] in PURE_MODULES
        if root.id in self.classes:
            return not attributes and self._record(self.classes[root.id])
        return not attributes and root.id in PURE_BUILTINS

    def _record(self, node: ast.ClassDef) -> bool:
        """A dataclass or class without construction code of its own."""
        own = {child.name for child in node.body if isinstance(child, FUNCTIONS)}
        if own & {"__init__", "__new__", "__post_init__"} or node.keywords:
            return False
        bases = [base.id if isinstance(base, ast.Name) else "" for base in node.bases]
        return all(
            base in PLAIN_BASES or (base in self.classes and self._record(self.classes[base]))
            for base in bases
        )


def _is_docstring(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def _strip(tree: ast.Module) -> None:
    """Docstrings (unless something reads __doc__), and annotations of functions and locals, go."""
    keep_docs = any(
        getattr(n, "attr", None) == "__doc__" or getattr(n, "id", None) == "__doc__"
        for n in ast.walk(tree)
    )
    keep_hints = any(
        getattr(n, "attr", getattr(n, "id", None))
        in ("__annotations__", "get_type_hints", "signature")
        for n in ast.walk(tree)
    )
    _Strip(not keep_docs, not keep_hints).visit(tree)


class _Strip(ast.NodeTransformer):
    def __init__(self, docs: bool, hints: bool) -> None:
        self.docs, self.hints = docs, hints
        self.in_class = False

    def visit(self, node: ast.AST) -> Any:
        if isinstance(node, (*FUNCTIONS, ast.Lambda)):
            if self.hints:
                for arg in arguments(node.args):
                    arg.annotation = None
                if not isinstance(node, ast.Lambda):
                    node.returns = None
            outer, self.in_class = self.in_class, False
            self.generic_visit(node)
            self.in_class = outer
        elif isinstance(node, ast.ClassDef):
            outer, self.in_class = self.in_class, True
            self.generic_visit(node)
            self.in_class = outer
        elif isinstance(node, ast.AnnAssign) and self.hints and not self.in_class:
            self.generic_visit(node)
            if node.value is None:
                return None
            return ast.copy_location(ast.Assign([node.target], node.value), node)
        else:
            self.generic_visit(node)
        if self.docs:
            self._without_literals(node)
        return node

    def _without_literals(self, node: ast.AST) -> None:
        for name in ("body", "orelse", "finalbody"):
            block = getattr(node, name, None)
            if isinstance(block, list):
                kept = [child for child in block if not _is_docstring(child)]
                required = name == "body" and not isinstance(node, ast.Module)
                setattr(node, name, kept or ([ast.Pass()] if required else []))


def definitions(tree: ast.Module) -> Iterator[tuple[str, ast.stmt]]:
    """(name, statement) of everything the tree binds at its top level, the rest under ''."""
    for statement in tree.body:
        names = sorted(_bound_by(statement))
        yield (names[0] if names else ""), statement


def visible_classes(tree: ast.Module) -> list[str]:
    """Classes whose names a program may print: all when names are read, else those with a `repr`."""
    classes = [node for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]
    attributes = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    if attributes & {"__name__", "__qualname__"}:
        return [node.name for node in classes]
    return [node.name for node in classes if node.decorator_list or node.bases]
