"""Self-extracting scripts: stub, encoding tax, compressed code. Read as a syntax tree, never run.

The payload is the longest string of the script. It is decoded by the base85, base64 or Ascii85 call
that the script names (none: the characters are the bytes, latin-1), and inflated with the constant
arguments of its `decompress` call, so raw lzma filters and raw deflate are understood. In the archive
form the payload stands before a zip archive whose `__main__.py` reads so many bytes of its own file.
Payloads that are context-mixed bring their decoder: see `squeeze.outside.mixed_script`.
"""

from __future__ import annotations

import ast
import base64
import binascii
import lzma
import re
import warnings
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

from squeeze.bundle.cost import costs, parts, pieces
from squeeze.errors import CorruptData, SqueezeError, UnsupportedFormat
from squeeze.outside import mixed_script, torch_zip
from squeeze.outside.inflate import MEMORY, bound, coder_of, inflate
from squeeze.rows import Row

MAX_SCRIPT = 16 << 20  # bytes of a script; the limit of the challenge is below it
MIN_PAYLOAD = 64  # characters
ENCODINGS: dict[str, Callable[[Any], bytes]] = {
    "b85decode": base64.b85decode, "a85decode": base64.a85decode, "b64decode": base64.b64decode,
    "standard_b64decode": base64.b64decode, "b32decode": base64.b32decode,
}  # fmt: skip
MODULES = {"lzma": "lzma", "zlib": "zlib", "brotli": "brotli", "zstandard": "zstd", "bz2": "bz2",
           "gzip": "gzip"}  # fmt: skip
TAILS = {"b85decode": "base85 tax", "a85decode": "base85 tax", "b32decode": "base32 tax"}
Undo = tuple[
    str | None, list[Any]
]  # module, and constant arguments after the data, of a decompress call
FILTERS = {"FORMAT_AUTO": 0, "FORMAT_XZ": 1, "FORMAT_ALONE": 2, "FORMAT_RAW": 3}


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


def looks(data: memoryview) -> bool:
    """Whether it is worth parsing: it executes something that it decompresses."""
    if len(data) > MAX_SCRIPT:
        return False
    if data[:4] == torch_zip.MAGIC:
        return False
    runs = re.search(b"exec", data) and re.search(b"decompress", data)
    return bool(runs) or _ends_with_program(data)


def _ends_with_program(data: memoryview) -> bool:
    tail = bytes(data[-200:])
    return b"PK\x05\x06" in tail[-80:] and b"__main__.py" in tail


def rows(name: str, script: Script) -> list[Row]:
    """Rows that sum to the script's size: the payload by definition, `elements` are bytes of source."""
    made = [Row(name, "code", "stub", script.stub)]
    code = script.code or b""
    made += _by_definition(name, code, "payload", script.compressed, script.coder) or [
        Row(name, "code", "payload", script.compressed, codec=script.coder, elements=len(code))
    ]
    return made + ([Row(name, "code", script.tax_kind, script.tax)] if script.tax else [])


def plain_rows(name: str, data: bytes) -> list[Row] | None:
    """Rows of a script that is its own source, by definition; None where it does not parse."""
    return _by_definition(name, data, "source", len(data)) if len(data) <= MAX_SCRIPT else None


def _by_definition(
    name: str, raw: bytes, kind: str, size: int, coder: str = ""
) -> list[Row] | None:
    text = _text(raw)[0].removeprefix("\ufeff")
    tree = _parsed(text)
    if tree is None or not tree.body:
        return None
    code = text.encode()
    found = pieces(code, tree)
    lengths = [piece.end - piece.start for piece in found]
    shares = lengths if kind == "source" else costs(code, found)
    module = PurePath(name).name
    named = [(module, p.name, share, n) for p, share, n in zip(found, shares, lengths, strict=True)]
    return [
        Row(name, "code", kind, part.bytes, part.module, None, part.name, coder, part.chars,
            kind != "source")
        for part in parts(named, size)
    ]  # fmt: skip


def read(data: memoryview, what: str) -> Script | None:
    """The parts of a self-extracting script; None when it is no such script.

    Raises CorruptData when it is one and its payload does not decode.
    """
    if _ends_with_program(data):
        return _archive(data, what)
    raw = bytes(data)
    text, width = _text(raw)
    tree = _parsed(text)
    if tree is None:
        return None
    strings = [
        node for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str | bytes)
    ]  # fmt: skip
    literal = max(strings, key=lambda node: len(node.value), default=None)  # type: ignore[arg-type]
    if literal is None or not isinstance(literal.value, str | bytes):
        return None
    if len(literal.value) < MIN_PAYLOAD or 2 * len(literal.value) < len(text):
        return None  # a script that happens to decompress something
    encoding = _called(tree, ENCODINGS)
    payload = _decoded(literal.value, encoding, what)
    undo = _decompress(tree)
    if payload is None or undo is None:
        return None
    segment = ast.get_source_segment(text, literal) or ""
    written = len(segment.encode(width, "surrogateescape"))
    kind = TAILS.get(encoding or "", "base64 tax" if encoding else "escapes")
    return _script(len(raw) - written, written - len(payload), kind, payload, tree, undo, what)


def _script(
    stub: int, tax: int, kind: str, payload: bytes, tree: ast.Module, undo: Undo, what: str
) -> Script:
    mixed = mixed_script.find(tree)
    if mixed is None:
        coder, code = _inflated(payload, *undo, what)
        return Script(stub, tax, kind, len(payload), coder, code)
    size = max(len(payload) - mixed.start, 0)
    stub += len(payload) - size  # the decoder
    try:
        code = mixed_script.code(payload, mixed, what)
    except UnsupportedFormat as error:
        return Script(stub, tax, kind, size, "mixed", None, str(error))
    return Script(stub, tax, kind, size, "mixed", code)


def _text(raw: bytes) -> tuple[str, str]:
    first = raw[:200].lower().replace(b"-", b"").replace(b" ", b"")
    latin = b"coding:l1" in first or b"coding:latin" in first or b"coding:iso8859" in first
    width = "latin-1" if latin else "utf-8"
    return raw.decode(width, "surrogateescape"), width


def _parsed(text: str) -> ast.Module | None:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # escapes that do not exist warn when parsed
            return ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def _called(tree: ast.AST, names: dict[str, Any]) -> str | None:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            function = node.func
            name = (
                function.attr
                if isinstance(function, ast.Attribute)
                else getattr(function, "id", "")
            )
            if name in names:
                return str(name)
    return None


def _decoded(value: str | bytes, encoding: str | None, what: str) -> bytes | None:
    try:
        if encoding is not None:
            return ENCODINGS[encoding](value)
        return value if isinstance(value, bytes) else value.encode("latin-1")
    except UnicodeEncodeError:
        return None
    except (ValueError, binascii.Error) as error:
        raise CorruptData(f"{what}: the payload is not {encoding}", found=str(error)[:80]) from None


def _decompress(tree: ast.AST) -> Undo | None:
    """(module, constant arguments after the data) of the outermost decompress call."""
    aliases = {
        alias.asname or alias.name: alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.Import)
        for alias in node.names
    }
    aliases |= {
        alias.asname or alias.name: node.module or ""
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        function = node.func
        if isinstance(function, ast.Attribute) and function.attr == "decompress":
            owner = function.value.id if isinstance(function.value, ast.Name) else ""
        elif isinstance(function, ast.Name) and "decompress" in function.id:
            owner = function.id
        else:
            continue
        named = {word.arg: _constant(word.value) for word in node.keywords if word.arg}
        given = [_constant(argument) for argument in node.args[1:]]
        order = ("format", "memlimit", "filters")
        given += [named.get(key) for key in order[len(given) :]] if "filters" in named else []
        given += [named["wbits"]] if "wbits" in named else []
        return MODULES.get(aliases.get(owner, "")), given
    return None


def _constant(node: ast.expr) -> Any:
    if isinstance(node, ast.Attribute) and (
        node.attr in FILTERS or node.attr.startswith("FILTER_")
    ):
        return FILTERS.get(node.attr, getattr(lzma, node.attr, None))
    if isinstance(node, ast.List):
        return [_constant(item) for item in node.elts]
    if isinstance(node, ast.Dict):
        keys = [None if key is None else _constant(key) for key in node.keys]
        pairs = zip(keys, map(_constant, node.values), strict=True)
        return {key: value for key, value in pairs if isinstance(key, str)}
    try:
        return ast.literal_eval(node)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        return None


def _inflated(payload: bytes, coder: str | None, given: list[Any], what: str) -> tuple[str, bytes]:
    """(coder, source). Raises CorruptData."""
    known = coder_of(memoryview(payload)) if coder is None else coder
    if known is None:
        known = "brotli"
    limit = bound(len(payload))
    try:
        if known == "lzma" and given and given[0] == 3:
            filters = [_bounded(entry) for entry in given[2]]
            decoder = lzma.LZMADecompressor(lzma.FORMAT_RAW, filters=filters)
            return known, _whole(decoder.decompress(payload, limit + 1), limit, what)
        if known == "zlib" and given and isinstance(given[0], int):
            raw = zlib.decompressobj(given[0])
            return known, _whole(raw.decompress(payload, limit + 1), limit, what)
    except (zlib.error, lzma.LZMAError, ValueError, TypeError, IndexError, KeyError, OverflowError,
            MemoryError) as error:  # fmt: skip
        raise CorruptData(f"{what}: the payload does not inflate", found=str(error)[:80]) from None
    return known, bytes(inflate(payload, known, f"{what}: payload"))


def _bounded(entry: dict[str, Any]) -> dict[str, Any]:
    if entry.get("dict_size", 0) > MEMORY:
        raise ValueError("dictionary too large")
    return entry


def _whole(code: bytes, limit: int, what: str) -> bytes:
    if len(code) > limit:
        raise CorruptData(f"{what}: payload inflates too far", expected=f"≤ {limit} bytes")
    return code


def _archive(data: memoryview, what: str) -> Script | None:
    """Payload, then a zip archive of `__main__.py`."""
    try:
        archive, found = torch_zip.entries(data, what)
        (main,) = [entry for entry in found if entry.info.filename == "__main__.py"]
        stub = torch_zip.content(archive, main, MAX_SCRIPT, what).decode()
    except (SqueezeError, ValueError):
        return None
    tree = _parsed(stub)
    undo = None if tree is None else _decompress(tree)
    if tree is None or undo is None:
        return None
    sizes = [
        node.args[0].value for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)
        and node.func.attr == "read" and len(node.args) == 1
        and isinstance(node.args[0], ast.Constant) and isinstance(node.args[0].value, int)
    ]  # fmt: skip
    if not sizes or not 0 < sizes[0] <= len(data):
        return None
    return _script(len(data) - sizes[0], 0, "", bytes(data[: sizes[0]]), tree, undo, what)
