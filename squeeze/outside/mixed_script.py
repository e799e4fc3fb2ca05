"""Scripts of `squeeze bundle` whose payload is context-mixed: the deflated decoder, then the code.

The decoder that travels along is never run. When it is the one of this version, letter by letter, ours
takes its place; the code of another one is not known.
"""

from __future__ import annotations

import ast
import zlib
from dataclasses import dataclass
from functools import lru_cache

from squeeze.errors import CorruptData, UnsupportedFormat
from squeeze.outside.source import MAX_SCRIPT

MAX_DECODER = 1 << 16  # bytes of its source
MAX_CODE = 1 << 20  # bytes; decoding takes some 30 seconds for as many


@dataclass(frozen=True)
class Mixed:
    """Where the deflated decoder ends in the payload, and how many bytes of source follow, decoded."""

    start: int
    size: int


def find(tree: ast.AST) -> Mixed | None:
    """Return the numbers of a stub `bytes(NAME(b[START:], s, SIZE)[…])`; None for any other."""
    for node in ast.walk(tree):
        if not (isinstance(node, ast.Call) and getattr(node.func, "id", "") == "bytes"):
            continue
        inner = node.args[0] if len(node.args) == 1 else None
        call = inner.value if isinstance(inner, ast.Subscript) else None
        if not (isinstance(call, ast.Call) and len(call.args) == 3):
            continue
        taken, size = call.args[0], call.args[2]
        lower = taken.slice if isinstance(taken, ast.Subscript) else None
        start = lower.lower if isinstance(lower, ast.Slice) else None
        numbers = [
            node.value
            for node in (start, size)
            if isinstance(node, ast.Constant)
            and isinstance(node.value, int)
            and 0 < node.value <= MAX_SCRIPT
        ]
        if len(numbers) == 2:
            return Mixed(numbers[0], numbers[1])
    return None


def code(payload: bytes, shape: Mixed, what: str) -> bytes:
    """Return the source. Raises CorruptData; UnsupportedFormat for a decoder of another version."""
    try:
        inflater = zlib.decompressobj(-15)
        decoder = inflater.decompress(payload[: shape.start], MAX_DECODER)
    except zlib.error as error:
        raise CorruptData(f"{what}: the decoder does not inflate", found=str(error)) from None
    if shape.size > MAX_CODE or not inflater.eof or inflater.unused_data:
        raise CorruptData(f"{what}: no mixed payload", found=f"{shape.size:,} bytes of source")
    return _decoded(payload[shape.start :], decoder, shape.size)


@lru_cache(maxsize=4)
def _decoded(payload: bytes, decoder: bytes, size: int) -> bytes:
    try:
        from squeeze.bundle.emit import mixed
    except ImportError:
        raise UnsupportedFormat("numba is not installed", fix="pip install numba") from None
    if decoder != mixed.decoder().encode():
        raise UnsupportedFormat(
            "the decoder in it is of another version of squeeze or of python-minifier"
        )
    return mixed.decode(size.to_bytes(mixed.HEADER, "little") + payload)
