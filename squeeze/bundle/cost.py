"""The bytes that each definition of a program costs once it is compressed.

A compressed stream does not say which byte is whose. The share of a definition is what it adds to a
zlib stream of all that stands before it: the shares of a file sum to it, and repeated text is cheap.
"""

from __future__ import annotations

import ast
import re
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from squeeze.rows import split_bytes

IMPORTS = (ast.Import, ast.ImportFrom)
DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
MAX_PIECES = 20_000  # probed one by one; of more, the share is by length
NEWLINE = re.compile(rb"\r\n|\r|\n")  # what Python takes for the end of a line


@dataclass(frozen=True)
class Piece:
    """Source of one purpose, from byte `start` to `end`.

    name: of a definition, `Class.method`, or a kind in brackets. statement: the top-level one it is or
    lies in.
    """

    name: str
    start: int
    end: int
    statement: ast.stmt


def pieces(code: bytes, tree: ast.Module) -> list[Piece]:
    """Return the definitions and statements of UTF-8 source, in order; they tile it.

    What stands between two, such as comments, belongs to the second; methods are pieces of their own.
    """
    lines = [0, *(match.end() for match in NEWLINE.finditer(code)), len(code)]
    starts: list[tuple[int, str, ast.stmt]] = []
    before = None
    for statement in tree.body:
        starts.append((_start(statement, before, lines), name_of(statement), statement))
        if isinstance(statement, ast.ClassDef):
            starts += [(at, name, statement) for at, name in _methods(statement, lines)]
        before = statement
    ends = [*(at for at, _, _ in starts[1:]), len(code)][: len(starts)]
    return [
        Piece(name, at, end, statement)
        for (at, name, statement), end in zip(starts, ends, strict=True)
    ]


def _start(node: ast.stmt, before: ast.stmt | None, lines: Sequence[int]) -> int:
    """Return where a statement's text begins: a line after the statement before it, or behind that."""
    if before is None:
        return 0
    ended = before.end_lineno or before.lineno
    return lines[ended] if ended < _first_line(node) else lines[ended - 1] + node.col_offset


def _first_line(node: ast.stmt) -> int:
    return min([node.lineno, *(d.lineno for d in getattr(node, "decorator_list", ()))])


def _methods(node: ast.ClassDef, lines: Sequence[int]) -> list[tuple[int, str]]:
    """Return (start, name) of the pieces of a class body; all but methods has the name of the class."""
    starts = []
    before: ast.stmt | None = None
    for statement in node.body:
        method = isinstance(statement, FUNCTIONS)
        if method or isinstance(before, FUNCTIONS):  # either stands on lines of its own
            first = _first_line(statement) - 1
            at = lines[first if before is None else before.end_lineno or first]
            starts.append((at, f"{node.name}.{name_of(statement)}" if method else node.name))
        before = statement
    return starts


def name_of(statement: ast.stmt) -> str:
    """Return the name that a statement has in a ledger."""
    if isinstance(statement, DEFINITIONS):
        return statement.name
    if isinstance(statement, IMPORTS):
        return "(imports)"
    if isinstance(statement, ast.Assign | ast.AnnAssign):
        if isinstance(statement.value, ast.Constant):
            return "(constants)"
        target = statement.targets[0] if isinstance(statement, ast.Assign) else statement.target
        if isinstance(target, ast.Name):
            return target.id
    return "(statements)"


def costs(code: bytes, code_pieces: Sequence[Piece]) -> list[int]:
    """Return the bytes that each piece adds to a zlib stream of what stands before it."""
    if len(code_pieces) > MAX_PIECES:
        return [piece.end - piece.start for piece in code_pieces]
    coder = zlib.compressobj(9, zlib.DEFLATED, -15)
    emitted, so_far, added = 0, 0, []
    for piece in code_pieces:
        text = code[piece.start : piece.end]
        probe = coder.copy()
        now = emitted + len(probe.compress(text) + probe.flush(zlib.Z_SYNC_FLUSH))
        emitted += len(coder.compress(text))
        added.append(max(0, now - so_far))
        so_far = now
    return added


@dataclass(frozen=True)
class Part:
    """A definition of the shipped code. bytes: its share of the file; chars: bytes of its source."""

    module: str
    name: str
    bytes: int
    chars: int


def parts(labels: Iterable[tuple[str, str, int, int]], total: int) -> tuple[Part, ...]:
    """Return shares of `total` bytes by (module, name), largest first; labels: (…, cost, chars)."""
    sums: dict[tuple[str, str], list[int]] = {}
    for module, name, cost, chars in labels:
        row = sums.setdefault((module, name), [0, 0])
        row[0] += cost
        row[1] += chars
    shares = split_bytes(total, [cost for cost, _ in sums.values()]) if sums else []
    rows = [
        Part(module, name, share, chars)
        for ((module, name), (_, chars)), share in zip(sums.items(), shares, strict=True)
    ]
    return tuple(sorted(rows, key=lambda part: (-part.bytes, part.module, part.name)))
