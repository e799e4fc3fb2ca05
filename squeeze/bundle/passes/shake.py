"""Drop what the program can never reach: definitions, methods, names of imports.

Reachability starts from statements with effects, of the modules that are loaded at the start or by
what is reached. A top-level definition without effects of its own (`def`, `class`, an import, an
assignment of a plain value) stays only if something that stays names it. A method stays if its class
stays and anything that stays reads an attribute of that name, or the class inherits from outside,
where callers cannot be seen.
"""

from __future__ import annotations

import ast
import builtins
import re
from collections import Counter, defaultdict
from collections.abc import Iterable

from squeeze.bundle.analysis.purity import Purity
from squeeze.bundle.analysis.values import PLAIN_BASES
from squeeze.bundle.load.loading import Loading
from squeeze.bundle.load.scopes import FUNCTIONS, bound_names, walk_scopes

EVERYTHING_AT_START = Loading()
# They list the attributes of a class or an instance by name, methods among them.
LISTING = frozenset(("__dict__", "attrgetter", "dir", "getmembers", "methodcaller", "vars"))
Method = ast.FunctionDef | ast.AsyncFunctionDef


def shake(
    tree: ast.Module, keep: Iterable[str] = (), loading: Loading = EVERYTHING_AT_START
) -> ast.Module:
    """Return the tree, changed in place, with only what effects and the names in `keep` reach.

    keep: names of definitions or methods that stay even if nothing reads them. loading: modules that
    statements came from, and load; by default all run at the start.
    """
    keep, reads = set(keep), _Reads()
    loading.adopt(tree.body)
    changed = True
    while changed:
        changed = _drop_statements(tree, keep, reads, loading)
        changed |= _drop_methods(tree, keep, reads)
    return ast.fix_missing_locations(tree)


class _Reads:
    """Side table of what each statement reads, filled on demand."""

    def __init__(self) -> None:
        self._names: dict[ast.stmt, set[str]] = {}

    def of(self, statement: ast.stmt) -> set[str]:
        """Return the module-level names and builtins that a statement's code refers to."""
        if statement not in self._names:
            names = self._names[statement] = set()
            walk_scopes([statement], lambda use: names.add(use.name))
        return self._names[statement]

    def forget(self, statement: ast.stmt) -> None:
        """Drop the entry of a statement that changes."""
        self._names.pop(statement, None)


def _drop_statements(tree: ast.Module, keep: set[str], reads: _Reads, loading: Loading) -> bool:
    """Drop unreached statements and unread names of imports; return whether anything went."""
    purity = Purity(tree)
    binders: dict[str, list[ast.stmt]] = defaultdict(list)
    effects: dict[str, list[ast.stmt]] = defaultdict(list)  # by module
    queue: list[ast.stmt] = []
    for statement in tree.body:
        names = bound_names([statement])[0]
        for name in names:
            binders[name].append(statement)
        if names & keep:
            queue.append(statement)
        if not (names and purity.only_binds(statement)):
            effects[loading.module_of(statement)].append(statement)
    for module in loading.at_start():
        queue += effects.pop(module, [])
    reached: set[ast.stmt] = set()
    while queue:
        statement = queue.pop()
        if statement not in reached:
            reached.add(statement)
            for name in reads.of(statement):
                queue += binders.get(name, [])
            for module in loading.by(statement):
                queue += effects.pop(module, [])
    before = len(tree.body)
    tree.body = [statement for statement in tree.body if statement in reached]
    return _drop_imports(tree, keep, reads) or len(tree.body) < before


def _drop_imports(tree: ast.Module, keep: set[str], reads: _Reads) -> bool:
    """Drop the names of imports that nothing reads, all but one; return whether any went."""
    readers = Counter(name for statement in tree.body for name in reads.of(statement))
    changed = False
    for statement in tree.body:
        if not isinstance(statement, ast.Import | ast.ImportFrom):
            continue
        if getattr(statement, "module", "") == "__future__":
            continue
        own = reads.of(statement)  # what an import binds is among it
        needed = []
        for alias in statement.names:
            name = alias.asname or alias.name.partition(".")[0]
            if name in keep or readers[name] > (name in own):
                needed.append(alias)
        if needed and len(needed) < len(statement.names):
            statement.names = needed
            reads.forget(statement)
            changed = True
    return changed


def _drop_methods(tree: ast.Module, keep: set[str], reads: _Reads) -> bool:
    """Drop unread methods of classes whose bases are all known; return whether any went.

    A method's own reads count only once it is read itself.
    """
    prefixes = _computed_attributes(tree)
    if "" in prefixes:
        return False
    classes = {node.name: node for node in tree.body if isinstance(node, ast.ClassDef)}
    unread: set[Method] = {
        child
        for node in classes.values()
        if _has_known_bases(node, classes)
        for child in node.body
        if isinstance(child, FUNCTIONS)
        and not (child.name.startswith("__") and child.name.endswith("__"))
    }
    names = keep | _attribute_names(tree, unread)
    for node in classes.values():  # a class body reads its own names plainly
        for child in node.body:
            if child not in unread:
                names |= _plain_names(child)
    while True:
        read = [m for m in unread if m.name in names or m.name.startswith(tuple(prefixes))]
        if not read:
            break
        for method in read:
            unread.remove(method)
            names |= _attribute_names(method, unread)
            for wrapper in method.decorator_list:
                names |= _plain_names(wrapper)
    for node in classes.values():
        body = [child for child in node.body if child not in unread]
        if len(body) < len(node.body):
            node.body = body or [ast.Pass()]
            reads.forget(node)
    return bool(unread)


def _plain_names(tree: ast.AST) -> set[str]:
    return {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}


def _attribute_names(tree: ast.AST, without: set[Method]) -> set[str]:
    """Return the names of attributes that code may read, methods in `without` passed over."""
    names: set[str] = set()
    stack = [tree]
    while stack:
        node = stack.pop()
        stack += [child for child in ast.iter_child_nodes(node) if child not in without]
        if isinstance(node, ast.Attribute):
            names.add(node.attr)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            if re.fullmatch(r"[\w.]+", node.value) or "{" in node.value:  # no text for people
                names.update(re.findall(r"\w+", node.value))
        elif isinstance(node, ast.keyword) and node.arg:
            names.add(node.arg)
        elif isinstance(node, ast.MatchClass):
            names.update(node.kwd_attrs)
    return names


def _computed_attributes(tree: ast.Module) -> set[str]:
    """Return how names computed for `getattr` and its like may begin; "" where any may be."""
    beginnings: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and node.attr in LISTING:
            return {""}
        if isinstance(node, ast.Call) and node.args and getattr(node.func, "id", "") in LISTING:
            return {""}
        if isinstance(node, ast.Call) and len(node.args) > 1:
            called = node.func.id if isinstance(node.func, ast.Name) else ""
            if called in ("getattr", "setattr", "hasattr", "delattr"):
                beginning = _beginning(node.args[1])
                if beginning is not None:
                    beginnings.add(beginning)
    return beginnings


def _beginning(node: ast.expr) -> str | None:
    """Return the known beginning of a string; None for a constant, which counts as read."""
    if isinstance(node, ast.Constant):
        return None
    if isinstance(node, ast.JoinedStr) and node.values and isinstance(node.values[0], ast.Constant):
        return str(node.values[0].value)
    if isinstance(node, ast.BinOp) and isinstance(node.left, ast.Constant):
        text = str(node.left.value)
        return text.partition("%")[0] if isinstance(node.op, ast.Mod) else text
    return ""


def _has_known_bases(node: ast.ClassDef, classes: dict[str, ast.ClassDef]) -> bool:
    for base in node.bases:
        root = base.value if isinstance(base, ast.Subscript) else base
        name = root.id if isinstance(root, ast.Name) else getattr(root, "attr", "")
        if name in classes and classes[name] is not node:
            if not _has_known_bases(classes[name], classes):
                return False
        elif name not in PLAIN_BASES and not _is_exception(name):
            return False
    return all(keyword.arg == "metaclass" for keyword in node.keywords)


def _is_exception(name: str) -> bool:
    kind = getattr(builtins, name, None)
    return isinstance(kind, type) and issubclass(kind, BaseException)
