"""The payload of a self-extracting script: from the literal in its text to the code that it stands for.

Decoded by the base85, base64, hexadecimal or Ascii85 call that the script names (none: the characters
are the bytes, latin-1), and inflated with the constant arguments of its `decompress` call, so raw lzma
filters and raw deflate are understood. Any literal may stand there: what the call would refuse is
refused here.
"""

from __future__ import annotations

import ast
import base64
import lzma
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from squeeze.errors import CorruptData
from squeeze.outside.inflate import WINDOW, Decoder, bound, coder_of, drained, inflate

PIECE = 5 << 16  # characters of base85 decoded at once: Python makes an object of every five
MODULES = {
    "lzma": "lzma",
    "zlib": "zlib",
    "brotli": "brotli",
    "zstandard": "zstd",
    "bz2": "bz2",
    "gzip": "gzip",
}
# Positional arguments of each module's `decompress` after the data.
ARGUMENTS = {"lzma": ("format", "memlimit", "filters"), "zlib": ("wbits",)}


@dataclass(frozen=True)
class Undo:
    """A `decompress` call.

    coder: of the module it belongs to, None where that is not known. arguments: its constant arguments
    by name; None for one that is no constant.
    """

    coder: str | None
    arguments: Mapping[str, Any]


def _base85(value: str | bytes) -> bytes:
    return b"".join(base64.b85decode(value[at : at + PIECE]) for at in range(0, len(value), PIECE))


def _ascii85(value: str | bytes) -> bytes:
    text = value.encode("ascii") if isinstance(value, str) else value
    text = text.translate(None, b" \t\n\r\v")
    plain, at = bytearray(), 0
    while at < len(text):
        part = text[at : at + PIECE]
        # A "z" stands for five characters; the others must come in fives.
        end = at + len(part) + -(len(part) - part.count(b"z")) % 5
        plain += base64.a85decode(text[at:end])
        at = end
    return bytes(plain)


def _hexadecimal(value: str | bytes) -> bytes:
    return bytes.fromhex(value if isinstance(value, str) else value.decode("ascii"))


ENCODINGS: dict[str, Callable[[str | bytes], bytes]] = {
    "b85decode": _base85,
    "a85decode": _ascii85,
    "b64decode": base64.b64decode,
    "standard_b64decode": base64.b64decode,
    "urlsafe_b64decode": base64.urlsafe_b64decode,
    "a2b_base64": base64.b64decode,
    "b32decode": base64.b32decode,
    "fromhex": _hexadecimal,
    "unhexlify": _hexadecimal,
}


def encoding_of(tree: ast.AST) -> str | None:
    """Return the name of the first decoding function that a script calls: one of ENCODINGS."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            function = node.func
            name = function.attr if isinstance(function, ast.Attribute) else _name(function)
            if name in ENCODINGS:
                return name
    return None


def undo_of(tree: ast.AST) -> Undo | None:
    """Return the outermost decompress call of a script."""
    modules: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            modules |= {alias.asname or alias.name: alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            modules |= {alias.asname or alias.name: node.module or "" for alias in node.names}
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        function = node.func
        if isinstance(function, ast.Attribute) and function.attr == "decompress":
            owner = _name(function.value)
        elif "decompress" in _name(function):
            owner = _name(function)
        else:
            continue
        coder = MODULES.get(modules.get(owner, ""))
        names = ARGUMENTS.get(coder or "lzma", ())
        arguments = dict(zip(names, map(_constant, node.args[1:]), strict=False))
        arguments |= {word.arg: _constant(word.value) for word in node.keywords if word.arg}
        return Undo(coder, arguments)
    return None


def _name(node: ast.expr) -> str:
    return node.id if isinstance(node, ast.Name) else ""


def _constant(node: ast.expr) -> Any:
    """Return the value of a literal, or of one with names of lzma in it; None for anything else."""
    if isinstance(node, ast.Attribute) and node.attr.startswith(("FORMAT_", "FILTER_")):
        return getattr(lzma, node.attr, None)
    if isinstance(node, ast.List | ast.Tuple):
        return [_constant(item) for item in node.elts]
    if isinstance(node, ast.Dict):
        keys = [None if key is None else _constant(key) for key in node.keys]
        pairs = zip(keys, map(_constant, node.values), strict=True)
        return {key: value for key, value in pairs if isinstance(key, str)}
    try:
        return ast.literal_eval(node)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError, OverflowError):
        return None


def decoded(value: str | bytes, encoding: str | None, what: str) -> bytes | None:
    """Return the bytes a literal stands for; None for text that stands for none.

    encoding: a name of ENCODINGS, None: the characters are the bytes. Raises CorruptData.
    """
    try:
        if encoding is not None:
            return ENCODINGS[encoding](value)
        return value if isinstance(value, bytes) else value.encode("latin-1")
    except UnicodeEncodeError:
        return None
    except ValueError as error:
        raise CorruptData(f"{what}: the payload is not {encoding}", found=str(error)[:80]) from None


def inflated(payload: bytes, undo: Undo, what: str) -> tuple[str, bytes]:
    """Return the coder's name and the source. Raises CorruptData."""
    coder = undo.coder or coder_of(memoryview(payload)) or "brotli"
    what = f"{what}: payload"
    decoder = _decoder(coder, undo.arguments, what)
    if decoder is None:
        return coder, bytes(inflate(payload, coder, what))
    return coder, bytes(drained(decoder, coder, payload, what, bound(len(payload))))


def _decoder(coder: str, arguments: Mapping[str, Any], what: str) -> Decoder | None:
    """Return a decoder with the call's own settings, None where it has none. Raises CorruptData."""
    try:
        if coder == "lzma" and arguments.get("format") == lzma.FORMAT_RAW:
            filters = arguments.get("filters")
            _check_filters(filters)
            return lzma.LZMADecompressor(lzma.FORMAT_RAW, filters=filters)
        if coder == "zlib" and arguments.get("wbits") is not None:
            return zlib.decompressobj(arguments["wbits"])
    except (ValueError, TypeError, OverflowError, lzma.LZMAError, MemoryError) as error:
        raise CorruptData(f"{what} does not inflate", found=str(error)[:80]) from None
    return None


def _check_filters(filters: Any) -> None:
    """Raise ValueError for what is no chain of lzma's filters, or asks for more memory than WINDOW."""
    if not isinstance(filters, list):
        raise ValueError("filters that are no list")
    for entry in filters:
        values = entry.values() if isinstance(entry, dict) else [None]
        if not all(isinstance(value, int) for value in values):
            raise ValueError("a filter that is no dictionary of numbers")
        if entry.get("dict_size", 0) > WINDOW:
            raise ValueError(f"a dictionary of {entry['dict_size']:#x} bytes")
