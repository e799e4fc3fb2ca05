"""From an entry script to the one file that ships, and to what each part of it costs."""

from __future__ import annotations

import ast
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from squeeze.bundle.attribution import attribute
from squeeze.bundle.cost import Part
from squeeze.bundle.emit.minify import minify
from squeeze.bundle.emit.payload import STANDARD, payloads
from squeeze.bundle.emit.wrap import Shipped, plain, wrap
from squeeze.bundle.load.flatten import flatten
from squeeze.bundle.load.modules import BundleError, Graph
from squeeze.bundle.specialise import NOTHING, ShrinkOptions, specialise

BOTH = ("literal", "archive")
ALONE = 60  # seconds that restoring the source may take


@dataclass(frozen=True)
class BundleOptions:
    """Choices of one bundle.

    keep: names that stay. constants: module-level flags and their values. coders, forms: those tried.
    minified: whether the shipped source is. rename_classes: also those whose names show in a `repr` or
    are read. shrink: what the program can do without.
    """

    keep: tuple[str, ...] = ()
    constants: dict[str, object] = field(default_factory=dict)
    coders: tuple[str, ...] = STANDARD
    forms: tuple[str, ...] = BOTH
    minified: bool = True
    rename_classes: bool = False
    shrink: ShrinkOptions = NOTHING


SMALLEST = BundleOptions()


@dataclass(frozen=True)
class Bundle:
    """The file that ships, and the program at each stage. `parts` sum to len(shipped.data)."""

    shipped: Shipped
    sources: tuple[Path, ...]  # all files that went in
    raw_bytes: int  # of them
    readable: str
    minified: str
    modules: tuple[str, ...]
    parts: tuple[Part, ...]
    warnings: tuple[str, ...]
    python: str = field(default=f"{sys.version_info[0]}.{sys.version_info[1]}")


def bundle(entry: Path, packages: Iterable[str] = (), options: BundleOptions = SMALLEST) -> Bundle:
    """Flatten, shake, minify, compress and wrap; of all coders and forms the smallest file wins.

    packages: top-level packages to take in besides modules that lie beside the entry. The file is run
    as far as its own source and compared before it is returned. Raises BundleError, naming what cannot
    be bundled.
    """
    graph = Graph(entry, packages, options.constants)
    flat = flatten(graph)
    specialise(flat, options.keep, options.shrink)
    flat.check()
    _drop_caches(flat.tree)
    readable = ast.unparse(flat.tree) + "\n"
    visible = () if options.rename_classes else _visible_classes(flat.tree)
    code = minify(readable, (*options.keep, *visible)) if options.minified else readable
    shipped = smallest(code, options.coders, options.forms)
    _verify(shipped, code)
    return Bundle(
        shipped,
        tuple(module.path for module in graph.modules.values()),
        sum(len(module.source.encode()) for module in graph.modules.values()),
        readable,
        code,
        tuple(sorted(graph.modules)),
        attribute(flat, code, len(shipped.data)),
        tuple(flat.warnings),
    )


def smallest(
    code: str, coders: tuple[str, ...] = STANDARD, forms: tuple[str, ...] = BOTH
) -> Shipped:
    """Return the smallest file that runs a program; the source itself when no stub pays."""
    candidates = [
        wrap(payload, form)
        for payload in payloads(code.encode(), coders)
        for form in forms
        if form != "plain"
    ]
    if (
        "plain" in forms
        or not candidates
        or len(code.encode()) <= min(len(c.data) for c in candidates)
    ):
        candidates.append(plain(code))
    return min(candidates, key=lambda shipped: (len(shipped.data), shipped.form, shipped.data))


def _visible_classes(tree: ast.Module) -> list[str]:
    """Return the classes whose names may be printed: all if names are read, else those with a `repr`."""
    classes = [node for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]
    attributes = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    if attributes & {"__name__", "__qualname__"}:
        return [node.name for node in classes]
    return [node.name for node in classes if node.decorator_list or node.bases]


def _drop_caches(tree: ast.Module) -> None:
    """Drop `cache=True` of numba's decorators: a bundle writes nothing beside its file."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and _called(node.func) in ("njit", "jit", "vectorize"):
            node.keywords = [k for k in node.keywords if k.arg != "cache"]


def _called(node: ast.expr) -> str:
    return node.id if isinstance(node, ast.Name) else getattr(node, "attr", "")


CHECK = """
import builtins, runpy, sys, linecache
class Stop(BaseException): pass
real = exec
def stop(code, *rest):
    if getattr(code, 'co_filename', '') == '<bundle>': raise Stop
    real(code, *rest)
builtins.exec = stop
try:
    runpy.run_path(sys.argv[1], run_name='__main__')
except Stop:
    pass
sys.stdout.buffer.write(''.join(linecache.cache['<bundle>'][2]).encode())
"""


def _verify(shipped: Shipped, code: str) -> None:
    """Check that a fresh Python restores the source from the file, without running it."""
    if shipped.form == "plain":
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "program.py"
        path.write_bytes(shipped.data)
        command: list[Any] = [sys.executable, "-c", CHECK, path]
        done = subprocess.run(command, capture_output=True, timeout=ALONE, check=False)
    if done.returncode or done.stdout != code.encode():
        raise BundleError(
            "the bundle does not restore its source",
            found=done.stderr.decode(errors="replace")[-300:],
        )
