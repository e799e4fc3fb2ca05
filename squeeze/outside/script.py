"""Self-extracting scripts: stub, encoding tax, compressed code. Read as a syntax tree, never run.

The payload is the longest string of the script; `squeeze.outside.payload` says how it is read. In the
archive form the payload stands before a zip archive whose `__main__.py` reads so many bytes of its own
file. Payloads that are context-mixed bring their decoder: see `squeeze.outside.mixed_script`.
"""

from __future__ import annotations

import ast
from dataclasses import dataclass
from pathlib import PurePath

from squeeze.bundle.cost import NEWLINE, costs, parts, pieces
from squeeze.errors import CorruptData, SqueezeError, UnsupportedFormat
from squeeze.outside import mixed_script, zip_archive
from squeeze.outside.payload import Undo, decoded, encoding_of, inflated, undo_of
from squeeze.outside.source import MAX_SCRIPT, Source, parsed
from squeeze.rows import Row

MIN_PAYLOAD = 64  # characters
TENSORS = (zip_archive.MAGIC, b"PGRP")  # begin files of tensors, whatever words stand in them
TAILS = {
    "b85decode": "base85 tax",
    "a85decode": "base85 tax",
    "b32decode": "base32 tax",
    "fromhex": "hex tax",
    "unhexlify": "hex tax",
}


@dataclass(frozen=True)
class Script:
    """Bytes of the stub, of what the encoding adds (tax), and of the compressed code.

    code: what the payload holds once decompressed; None where that could not be read, for the reason
    `unread`.
    """

    stub: int
    tax: int
    tax_kind: str
    compressed: int
    coder: str
    code: bytes | None
    unread: str = ""


def looks(data: bytes) -> bool:
    """Return whether it is worth parsing: it executes something that it decompresses."""
    if len(data) > MAX_SCRIPT or data[:4] in TENSORS:
        return False
    return (b"exec" in data and b"decompress" in data) or _ends_with_program(data)


def _ends_with_program(data: bytes) -> bool:
    tail = data[-200:]
    return b"PK\x05\x06" in tail[-80:] and b"__main__.py" in tail


def rows(name: str, script: Script) -> list[Row]:
    """Return rows that sum to the script's size: the payload by definition, elements are bytes."""
    made = [Row(name, "code", "stub", script.stub)]
    code = script.code or b""
    made += _by_definition(name, Source(code), "payload", script.compressed, script.coder) or [
        Row(name, "code", "payload", script.compressed, codec=script.coder, elements=len(code))
    ]
    return made + ([Row(name, "code", script.tax_kind, script.tax)] if script.tax else [])


def plain_rows(name: str, source: Source) -> list[Row] | None:
    """Return rows of a script that is its own source, by definition; None where it does not parse."""
    return _by_definition(name, source, "source", len(source.raw))


def _by_definition(
    name: str, source: Source, kind: str, size: int, coder: str = ""
) -> list[Row] | None:
    if source.tree is None or not source.tree.body:
        return None
    code = source.text.encode()
    cut = pieces(code, source.tree)
    lengths = [piece.end - piece.start for piece in cut]
    shares = lengths if kind == "source" else costs(code, cut)
    module = PurePath(name).name
    named = [(module, p.name, share, n) for p, share, n in zip(cut, shares, lengths, strict=True)]
    return [
        Row(
            name,
            "code",
            kind,
            part.bytes,
            part.module,
            None,
            part.name,
            coder,
            part.chars,
            kind != "source",
        )
        for part in parts(named, size)
    ]


def read(source: Source, what: str) -> Script | None:
    """Return the parts of a self-extracting script; None when it is no such script.

    what: its name, for messages. Raises CorruptData when it is one and its payload does not decode. A
    string that no known call decodes may stand for anything: one that does not inflate is no payload.
    """
    if not looks(source.raw):
        return None
    if _ends_with_program(source.raw):
        return _archive(source.raw, what)
    text, tree = source.text, source.tree
    if tree is None:
        return None
    strings = [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str | bytes)
    ]
    literal = max(strings, key=lambda node: len(node.value), default=None)  # type: ignore[arg-type]
    if literal is None or not isinstance(literal.value, str | bytes):
        return None
    if len(literal.value) < MIN_PAYLOAD or 2 * len(literal.value) < len(text):
        return None  # a script that happens to decompress something
    encoding = encoding_of(tree)
    payload = decoded(literal.value, encoding, what)
    undo = undo_of(tree)
    if payload is None or undo is None:
        return None
    written = _written(text, source.encoding, literal)
    kind = TAILS.get(encoding or "", "base64 tax" if encoding else "escapes")
    stub = len(source.raw) - written
    try:
        return _script(stub, written - len(payload), kind, payload, tree, undo, what)
    except CorruptData:
        if encoding is None:
            return None
        raise


def _script(
    stub: int, tax: int, kind: str, payload: bytes, tree: ast.Module, undo: Undo, what: str
) -> Script:
    mixed = mixed_script.find(tree)
    if mixed is None:
        coder, code = inflated(payload, undo, what)
        return Script(stub, tax, kind, len(payload), coder, code)
    size = max(len(payload) - mixed.start, 0)
    stub += len(payload) - size  # the decoder
    try:
        code = mixed_script.code(payload, mixed, what)
    except UnsupportedFormat as error:
        return Script(stub, tax, kind, size, "mixed", None, str(error))
    return Script(stub, tax, kind, size, "mixed", code)


def _written(text: str, width: str, literal: ast.Constant) -> int:
    """Return how many bytes of the file a literal takes. Its places are lines, and bytes of UTF-8."""
    code = text.encode()
    first, last = literal.lineno, literal.end_lineno or literal.lineno
    starts = {1: 0}
    for number, end in enumerate(NEWLINE.finditer(code), start=2):
        if number in (first, last):
            starts[number] = end.end()
        if number > last:
            break
    begin = starts[first] + literal.col_offset
    segment = code[begin : starts[last] + (literal.end_col_offset or 0)]
    return len(segment.decode().encode(width))


def _archive(data: bytes, what: str) -> Script | None:
    """Return the parts of a payload with a zip archive of `__main__.py` behind it."""
    view = memoryview(data)
    try:
        entries = zip_archive.entries(view, what)
        (main,) = [entry for entry in entries if entry.name == "__main__.py"]
        stub = bytes(zip_archive.content(view, main, MAX_SCRIPT, what)).decode()
    except (SqueezeError, ValueError):
        return None
    tree = parsed(stub)
    undo = None if tree is None else undo_of(tree)
    if tree is None or undo is None:
        return None
    sizes = [
        node.args[0].value
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr == "read"
        and len(node.args) == 1
        and isinstance(node.args[0], ast.Constant)
        and isinstance(node.args[0].value, int)
    ]
    if not sizes or not 0 < sizes[0] <= len(data):
        return None
    return _script(len(data) - sizes[0], 0, "", data[: sizes[0]], tree, undo, what)
