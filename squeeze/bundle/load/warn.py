"""Warnings of what will happen in the flat file that did not before, each with its file and line."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterable, Iterator

from squeeze.bundle.load.modules import Graph, Module
from squeeze.bundle.load.tree import last_name, walk

LOOKED_UP = "it finds names by their text: nothing in the program is dropped or renamed"
COMPUTED = "it imports what it computes: the bundle will stop here if that is a module left behind"
BY_PATH = "it runs code by its path: the bundle will stop here if that is not where it looks"
LEFT_BEHIND = "it reads a data file of a package, which is left behind: the bundle will stop here"
MINIFIED = "it will get the bundle's minified source"
DATA = "it opens a relative path: the bundle will stop here where that is not below its folder, too"
EARLY = "only functions import this module, and the bundle runs it at its start"
BUILTINS = {
    "exec": LOOKED_UP,
    "eval": LOOKED_UP,
    "compile": LOOKED_UP,
    "__import__": COMPUTED,
    "globals": LOOKED_UP,
    "__file__": "it will be the path of the bundle, and what it looks for beside itself is there",
}
FUNCTIONS = {
    "import_module": COMPUTED,
    "spec_from_file_location": BY_PATH,
    "run_path": BY_PATH,
    "run_module": BY_PATH,
    "getsource": MINIFIED,
    "getsourcelines": MINIFIED,
}
OPENING = {"open", "Path", "fromfile", "genfromtxt", "load", "loadtxt", "memmap", "read_csv"}
JOINING = {"join", "Path", "joinpath"}


def warnings_of(module: Module) -> list[str]:
    """Return `file:line: name: why`, by cause, in the order of the file."""
    lines: dict[str, list[str]] = {}
    for node in walk(module.tree):
        for cause in _causes(node):
            lines.setdefault(cause, []).append(module.where(node))
    return [f"{line}: {cause}" for cause, by_cause in lines.items() for line in by_cause]


def early_imports(graph: Graph) -> list[str]:
    """Return `file:line: name: why` of imports from outside that ran when a function did."""
    at_start = graph.at_start()
    plain = [
        (module, node, name)
        for module in graph.modules.values()
        for node, name in _outside(module)
        if not graph.is_local(name)
    ]
    there = {name for module, _, name in plain if module.name in at_start}
    return [
        f"{module.where(node)}: {name}: {EARLY}"
        for module, node, name in plain
        if module.name not in at_start and name not in there
    ]


def _outside(module: Module) -> Iterator[tuple[ast.stmt, str]]:
    """Yield the imports of a module that run whenever it does, of what Python does not bring along."""
    for node in module.tree.body:
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and not node.level:
            names = [node.module or ""]
        else:
            continue
        for name in dict.fromkeys(name.partition(".")[0] for name in names):
            if name not in sys.stdlib_module_names:
                yield node, name


def _causes(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Name) and node.id in BUILTINS | FUNCTIONS:
        yield f"{node.id}: {(BUILTINS | FUNCTIONS)[node.id]}"
    elif isinstance(node, ast.Attribute) and node.attr in FUNCTIONS | {"__file__": ""}:
        yield f"{node.attr}: {(BUILTINS | FUNCTIONS)[node.attr]}"
    elif isinstance(node, ast.ImportFrom):
        yield from _imported(node.module or "", node.names)
    elif isinstance(node, ast.Import):
        yield from _imported("", node.names)
    elif isinstance(node, ast.Call) and _opens(node.func) and _is_relative(node.args):
        yield f"{last_name(node.func)}: {DATA}"


def _imported(module: str, names: Iterable[ast.alias]) -> Iterator[str]:
    """Yield the causes in one import: a function under another name, a reader of package data."""
    for alias in names:
        if alias.asname not in (None, alias.name) and alias.name in FUNCTIONS:
            yield f"{alias.name}: {FUNCTIONS[alias.name]}"
        if f"{module}.{alias.name}".strip(".").startswith(("importlib.resources", "pkgutil")):
            yield f"{alias.name}: {LEFT_BEHIND}"


def _opens(function: ast.expr) -> bool:
    """Return whether the first argument is a path; `path.open("w")` has none."""
    if isinstance(function, ast.Attribute) and function.attr == "open":
        return isinstance(function.value, ast.Name) and function.value.id in ("io", "gzip", "bz2")
    return last_name(function) in OPENING


def _is_relative(arguments: list[ast.expr]) -> bool:
    """Return whether the first argument is a path, or begins as one, that is not absolute."""
    first = arguments[0] if arguments else None
    if isinstance(first, ast.JoinedStr) and first.values:
        first = first.values[0]
    if isinstance(first, ast.Call) and last_name(first.func) in JOINING:
        return _is_relative(first.args)
    if isinstance(first, ast.BinOp):
        return _is_relative([first.left])
    value = first.value if isinstance(first, ast.Constant) else None
    return isinstance(value, str) and value != "" and not value.startswith(("/", "~"))
