"""From an entry script to the one file that ships, and to what each part of it costs."""

from __future__ import annotations

import ast
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from squeeze.bundle.analysis.purity import Purity
from squeeze.bundle.analysis.readers import look_ups
from squeeze.bundle.attribution import attribute
from squeeze.bundle.cost import Part
from squeeze.bundle.emit.minify import minify
from squeeze.bundle.emit.payload import STANDARD, payloads
from squeeze.bundle.emit.wrap import Shipped, plain, wrap
from squeeze.bundle.load.flatten import Flat, flatten
from squeeze.bundle.load.modules import BundleError, Graph
from squeeze.bundle.load.tree import last_name, spelled, walk
from squeeze.bundle.passes.imports import join_imports
from squeeze.bundle.passes.itself import restore_reads, self_reads
from squeeze.bundle.passes.shake import shake
from squeeze.bundle.specialise import NOTHING, ShrinkOptions, specialise
from squeeze.bundle.unpacked import unpacked
from squeeze.bundle.visible import (
    looked_up_names,
    renamed_definitions,
    separate_hints,
    visible_names,
)

BOTH = ("literal", "archive")
RESTORED = (
    "the program reads its own file: it will find the bundle's minified source, and the size of the "
    "bundle as the length of that text"
)
AS_TEXT = "the program may read its own file: the bundle is a text, some 15 % larger"
ALONE = 900.0  # seconds that restoring the source may take: a busy machine compiles for minutes


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
    graph = Graph(entry, packages, options.constants, unpacked(entry))
    flat = flatten(graph, options.keep)
    names = spelled(flat.tree)
    unknown = [name for name in options.keep if name not in names]
    flat.warnings += [f"--keep {name}: nothing in the program has that name" for name in unknown]
    join_imports(flat)
    flat, keep = _specialised(flat, options)
    flat.check()
    separate_hints(flat)
    _drop_caches(flat.tree)
    forms = _forms(flat, options.forms)
    if all(map(Purity(flat.tree).only_binds, flat.tree.body)):
        flat.warnings.insert(0, f"{entry}: nothing in it does anything: the bundle does nothing")
    readable = ast.unparse(flat.tree) + "\n"
    visible = visible_names(flat.tree, not options.rename_classes, options.keep)
    flat.warnings += renamed_definitions(flat, visible)
    code = minify(readable, keep, visible) if options.minified else readable
    shipped = smallest(code, options.coders, forms)
    _verify(shipped, code)
    return Bundle(
        shipped,
        graph.sources,
        sum(path.stat().st_size for path in graph.sources),
        readable,
        code,
        tuple(sorted(graph.modules)),
        attribute(flat, code, len(shipped.data)),
        tuple(flat.warnings),
    )


def _specialised(flat: Flat, options: BundleOptions) -> tuple[Flat, tuple[str, ...]]:
    """Return the specialised program, and the names that stay in it.

    All do if code in a text may say them. Whether anything is left that reads such code is known once
    the program is specialised.
    """
    if not look_ups(flat.tree):
        specialise(flat, options.keep, options.shrink)
        return flat, options.keep
    without = flat.copied()
    shake(without.tree, options.keep, without.loading)
    if options.shrink != NOTHING or not look_ups(without.tree):
        specialise(without, options.keep, options.shrink)
    if not look_ups(without.tree):
        return without, options.keep
    keep = (*options.keep, *looked_up_names(flat))
    specialise(flat, keep, options.shrink)
    return flat, keep


def _forms(flat: Flat, wanted: tuple[str, ...]) -> tuple[str, ...]:
    """Return the forms in which the program can read what it reads of itself, and let it.

    Raises BundleError, naming the line, if none of the wanted ones is.
    """
    reads = self_reads(flat.tree)
    if not reads.unclear:
        _replace_warnings(flat, reads.texts, RESTORED)
        restore_reads(flat.tree, reads)
        return ("literal",) if reads.texts and wanted == BOTH else wanted
    if wanted == BOTH:
        _replace_warnings(flat, reads.unclear, AS_TEXT)
        return ("text",)
    if set(wanted) <= {"text", "plain"}:
        return wanted
    raise BundleError(
        f"{flat.where(reads.unclear[0])}: the program may read its own file, which is no text then",
        expected="--form text or plain",
        found=", ".join(wanted),
    )


def _replace_warnings(flat: Flat, nodes: Sequence[ast.AST], message: str) -> None:
    """Say of lines that name the program's file what they will find there."""
    lines = dict.fromkeys(flat.where(node) for node in nodes)
    known = tuple(f"{line}: __file__" for line in lines)
    flat.warnings[:] = [text for text in flat.warnings if not text.startswith(known)]
    flat.warnings += [f"{line}: {message}" for line in lines]


def smallest(
    code: str, coders: tuple[str, ...] = STANDARD, forms: tuple[str, ...] = BOTH
) -> Shipped:
    """Return the smallest file that runs a program; the source itself when no stub pays."""
    wrapping = [form for form in forms if form != "plain"]
    candidates = [
        wrap(payload, form)
        for payload in (payloads(code.encode(), coders) if wrapping else ())
        for form in wrapping
    ]
    if (
        "plain" in forms
        or not candidates
        or len(code.encode()) <= min(len(c.data) for c in candidates)
    ):
        candidates.append(plain(code))
    return min(candidates, key=lambda shipped: (len(shipped.data), shipped.form, shipped.data))


def _drop_caches(tree: ast.Module) -> None:
    """Drop `cache=True` of numba's decorators: a bundle writes nothing beside its file."""
    for node in walk(tree):
        if isinstance(node, ast.Call) and last_name(node.func) in ("njit", "jit", "vectorize"):
            node.keywords = [k for k in node.keywords if k.arg != "cache"]


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
        try:
            done = subprocess.run(command, capture_output=True, timeout=ALONE, check=False)
        except subprocess.TimeoutExpired:
            raise BundleError(
                "the bundle does not restore its source in time", expected=f"≤ {ALONE:g} s"
            ) from None
    if done.returncode or done.stdout != code.encode():
        raise BundleError(
            "the bundle does not restore its source",
            found=done.stderr.decode(errors="replace")[-300:],
        )
