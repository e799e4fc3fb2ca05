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

from squeeze.bundle.cost import IMPORTS, Part, costs, parts, pieces
from squeeze.bundle.emit.minify import minify
from squeeze.bundle.emit.payload import STANDARD, payloads
from squeeze.bundle.emit.wrap import Shipped, plain, wrap
from squeeze.bundle.load.flatten import Flat, flatten
from squeeze.bundle.load.modules import BundleError, Graph
from squeeze.bundle.passes.shake import definitions, visible_classes
from squeeze.bundle.specialise import Liberties, specialise

BOTH = ("literal", "archive")
ALONE = 60  # seconds that restoring the source may take


@dataclass(frozen=True)
class Bundle:
    """The file, and the program in each stage. parts sum to len(shipped.data)."""

    shipped: Shipped
    raw_bytes: int  # of all source files that went in
    readable: str
    minified: str
    modules: tuple[str, ...]
    parts: tuple[Part, ...]
    warnings: tuple[str, ...]
    python: str = field(default=f"{sys.version_info[0]}.{sys.version_info[1]}")


def bundle(
    entry: Path,
    packages: Iterable[str] = (),
    *,
    keep: Iterable[str] = (),
    constants: dict[str, object] | None = None,
    coders: tuple[str, ...] = STANDARD,
    forms: tuple[str, ...] = BOTH,
    minified: bool = True,
    rename_classes: bool = False,
    liberties: Liberties = Liberties(),  # noqa: B008  frozen
) -> Bundle:
    """Flatten, shake, minify, compress and wrap; of all coders and forms the smallest file wins.

    packages: top-level packages to take in besides modules that lie beside the entry. keep: names that
    stay. constants: module-level flags and their values. rename_classes: also those whose names show
    in a `repr` or are read. liberties: what the program can do without. The file is run as far as its
    own source and compared before it is returned. Raises BundleError, naming what cannot be bundled.
    """
    graph = Graph(entry, packages, constants)
    flat = flatten(graph)
    keep = tuple(keep)
    specialise(flat, keep, liberties)
    flat.check()
    _without_caches(flat.tree)
    readable = ast.unparse(flat.tree) + "\n"
    seen = () if rename_classes else visible_classes(flat.tree)
    code = minify(readable, (*keep, *seen)) if minified else readable
    shipped = smallest(code, coders, forms)
    _verify(shipped, code)
    return Bundle(
        shipped,
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
    """The smallest file that runs a program; the source itself when no stub pays."""
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


def _without_caches(tree: ast.Module) -> None:
    """numba keeps compiled kernels beside their source file; a bundle writes nothing there."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and _called(node.func) in ("njit", "jit", "vectorize"):
            node.keywords = [k for k in node.keywords if k.arg != "cache"]


def _called(node: ast.expr) -> str:
    return node.id if isinstance(node, ast.Name) else getattr(node, "attr", "")


def attribute(flat: Flat, code: str, total: int) -> tuple[Part, ...]:
    """Shares of the file by original module and name; hoisted literals are a row of their own.

    Minified statements are told apart by their order, which the minifier keeps.
    """
    encoded = code.encode()
    tree = ast.parse(code)
    shaken = [(n, s) for n, s in definitions(flat.tree) if not isinstance(s, IMPORTS)]
    mains = [statement for statement in tree.body if not isinstance(statement, IMPORTS)]
    extra = len(mains) - len(shaken)
    labels: dict[int, tuple[str, str]] = {}
    if extra >= 0 and all(
        type(new) is type(old) for new, (_, old) in zip(mains[extra:], shaken, strict=True)
    ):
        for new, (name, old) in zip(mains[extra:], shaken, strict=True):
            module, original = flat.homes.get(name, (flat.owners.get(id(old), "__main__"), ""))
            labels[id(new)] = (module, original or "(statements)")
    found = pieces(encoded, tree)
    named = []
    for piece, cost in zip(found, costs(encoded, found), strict=True):
        default = "(imports)" if isinstance(piece.statement, IMPORTS) else "(literals)"
        module, name = labels.get(id(piece.statement), ("(bundle)", default))
        if isinstance(piece.statement, ast.ClassDef) and "." in piece.name:
            name += "." + piece.name.partition(".")[2]
        named.append((module, name, cost, piece.end - piece.start))
    return parts(named, total)


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
    """Let a fresh Python restore the source from the file, without running it."""
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
