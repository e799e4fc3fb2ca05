"""Names that a program reaches, found without the bundler, against those that its bundle defines.

`python -m tests.squeeze.bundle.reachable SCRIPT …` prints a line for each script and a sum.
"""

from __future__ import annotations

import ast
import builtins
import sys
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from squeeze.bundle.build import BundleOptions, bundle
from squeeze.bundle.specialise import ShrinkOptions
from squeeze.bundle.unpacked import unpacked

OPTIONS = {
    "plain": BundleOptions(forms=("plain",), minified=False),
    "specialised": BundleOptions(
        forms=("plain",), minified=False, shrink=ShrinkOptions(specialise=True)
    ),
}
DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
OURS = {"SourceText", "linecache"}  # that let a program read its restored source
OF_MODULES = {"__file__", "__name__", "__doc__", "__spec__", "__class__", "__annotations__"}


@dataclass(frozen=True)
class Comparison:
    """Names of an original and of its bundle.

    original, bundled: those that each defines
    settled: those that gave way to their values
    lost: others that the original reaches, by a rule that keeps too much, and the bundle does not define
    missing: those that the bundle reads and nothing defines, though something did
    added: those that only the bundle defines
    """

    original: frozenset[str]
    bundled: frozenset[str]
    settled: frozenset[str]
    lost: frozenset[str]
    missing: frozenset[str]
    added: frozenset[str]

    @property
    def same(self) -> bool:
        """True if the bundle defines what the original reaches, and nothing else."""
        return not (self.lost or self.missing or self.added)


def compared(path: Path, options: BundleOptions) -> Comparison:
    """Return the comparison of a script of one file with its bundle, whose names are not minified."""
    before = ast.parse(unpacked(path) or path.read_bytes())
    after = ast.parse(bundle(path, options=options).readable)
    original, bundled = defined(before), defined(after)
    lost = (reached(before) & original) - bundled
    settled = lost & _giving_way(before) if options.shrink.specialise else set()
    return Comparison(
        frozenset(original),
        frozenset(bundled),
        frozenset(settled),
        frozenset(lost - settled),
        frozenset(unbound(after) - unbound(before)),
        frozenset(bundled - original - OURS),
    )


def _giving_way(tree: ast.Module) -> set[str]:
    """Return the names bound to what a specialised bundle may put where they are read."""
    names = set[str]()
    for node in tree.body:
        value: ast.AST | None = getattr(node, "value", None)
        if isinstance(node, ast.FunctionDef):
            last = node.body[-1]
            value = last.value if isinstance(last, ast.Return) and len(node.body) < 3 else None
        elif not isinstance(node, ast.Assign | ast.AnnAssign):
            continue
        parts = list(ast.walk(value)) if value is not None else []
        plain = not any(isinstance(part, ast.Call | ast.Dict | ast.List) for part in parts)
        if parts and (plain or isinstance(node, ast.FunctionDef)):
            names.update(_bound(node))
    return names


def defined(tree: ast.Module) -> set[str]:
    """Return the names that the statements of a module bind, those in its blocks included."""
    return {name for statement in tree.body for name in _bound(statement)}


def _bound(statement: ast.AST) -> Iterator[str]:
    if isinstance(statement, DEFINITIONS):
        yield statement.name
        return
    if isinstance(statement, ast.Import | ast.ImportFrom):
        for alias in statement.names:
            yield alias.asname or alias.name.partition(".")[0]
        return
    if isinstance(
        statement, ast.Lambda | ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp
    ):
        return
    if isinstance(statement, ast.Name) and isinstance(statement.ctx, ast.Store):
        yield statement.id
    if isinstance(statement, ast.ExceptHandler) and statement.name:
        yield statement.name
    for child in ast.iter_child_nodes(statement):
        yield from _bound(child)


def unbound(tree: ast.Module) -> set[str]:
    """Return the names that a module reads, whatever the scope, and nothing in it binds anywhere."""
    bound = set(dir(builtins)) | OF_MODULES
    for node in ast.walk(tree):
        bound.update(_bound(node))
        if isinstance(node, ast.arg):
            bound.add(node.arg)
        elif isinstance(node, ast.MatchAs | ast.MatchStar) and node.name:
            bound.add(node.name)
        elif isinstance(node, ast.MatchMapping) and node.rest:
            bound.add(node.rest)
        elif "TypeVar" in type(node).__name__:
            bound.add(node.name)  # type: ignore[attr-defined]
    return {n.id for n in ast.walk(tree) if isinstance(n, ast.Name)} - bound


def reached(tree: ast.Module) -> set[str]:
    """Return the names that a module's statements with effects lead to.

    A definition is reached once its name stands anywhere in what is reached, whatever the name means
    there, and a method once its class and its name are, whatever the attribute is of.
    """
    names, done = set[str](), set[int]()
    queue: list[ast.AST] = [node for node in tree.body if not _only_defines(node)]
    definitions = [node for node in tree.body if _only_defines(node)]
    methods: list[tuple[str, ast.AST]] = []
    while queue:
        for node in queue:
            done.add(id(node))
            shell, own = _without_methods(node)
            methods += own
            for part in shell:
                names |= _read(part)
        queue = [node for node in definitions if id(node) not in done and names & set(_bound(node))]
        queue += [node for name, node in methods if name in names and id(node) not in done]
    return names


def _only_defines(node: ast.stmt) -> bool:
    """Return whether a statement is a plain definition, import or assignment without a call."""
    if isinstance(node, DEFINITIONS):
        return True
    if isinstance(node, ast.Import | ast.ImportFrom):
        return True
    plain = isinstance(node, ast.Assign | ast.AnnAssign)
    if plain and not any(isinstance(part, ast.Call) for part in ast.walk(node)):
        return True
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def _without_methods(node: ast.AST) -> tuple[list[ast.AST], list[tuple[str, ast.AST]]]:
    """Return the parts of a class that are reached with it, and its methods that are not yet."""
    if not isinstance(node, ast.ClassDef) or node.bases or node.keywords or node.decorator_list:
        return [node], []
    methods = [
        (child.name, child)
        for child in node.body
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef)
        and not child.name.startswith("__")
    ]
    own = {id(child) for _, child in methods}
    return [child for child in node.body if id(child) not in own], list(methods)


def _read(tree: ast.AST) -> set[str]:
    """Return the names and attributes that code reads; hints of arguments and locals are no code."""
    names, queue = set[str](), [tree]
    while queue:
        node = queue.pop()
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
            names.add(node.id)
        elif isinstance(node, ast.Attribute):
            names.add(node.attr)
        hints = {id(getattr(node, "annotation", None)), id(getattr(node, "returns", None))}
        queue += [child for child in ast.iter_child_nodes(node) if id(child) not in hints]
    return names


def main() -> None:
    """Compare scripts, and print what differs."""
    warnings.simplefilter("ignore")
    same = dict.fromkeys(OPTIONS, 0)
    for path in map(Path, sys.argv[1:]):
        for name, options in OPTIONS.items():
            names = compared(path, options)
            same[name] += names.same
            print(f"{path} {name}: {len(names.original)} names, {len(names.bundled)} in the bundle")
            for title in ("settled", "lost", "missing", "added"):
                if getattr(names, title):
                    print(f"  {title}: {', '.join(sorted(getattr(names, title)))}")
            sys.stdout.flush()
    for name, count in same.items():
        print(f"{name}: {count} of {len(sys.argv) - 1} define what they reach, and no more")


if __name__ == "__main__":
    main()
