"""safetensors: 8-byte header size, JSON header, numbers. Format: the safetensors README."""

from __future__ import annotations

import json
from typing import Any

from squeeze.errors import BadCheckpoint, CorruptData, UnsupportedFormat
from squeeze.outside.naming import described
from squeeze.outside.pieces import SIZES, Piece, Plain, numbers, tiled

MAX_HEADER = 100_000_000  # bytes, the library's own limit
NUMBERS = {
    "F64": "fp64", "F32": "fp32", "F16": "fp16", "BF16": "bf16", "F8_E4M3": "fp8",
    "F8_E5M2": "fp8", "I64": "int64", "U64": "uint64", "I32": "int32", "U32": "uint32",
    "I16": "int16", "U16": "uint16", "I8": "int8", "U8": "uint8", "BOOL": "bool",
}  # fmt: skip


def looks(data: memoryview) -> bool:
    """Whether the bytes start like one: a header size within the file, then a brace."""
    return bytes(data[8:9]) == b"{" and int.from_bytes(data[:8], "little") <= len(data) - 8


def read(data: memoryview, what: str) -> Plain:
    """Pieces of a safetensors file. Raises BadCheckpoint, CorruptData or UnsupportedFormat."""
    size = int.from_bytes(data[:8], "little")
    if size > MAX_HEADER:
        raise CorruptData(f"{what}: header too long", expected=f"≤ {MAX_HEADER}", found=size)
    try:
        header = json.loads(bytes(data[8 : 8 + size]))
    except (ValueError, RecursionError):
        raise CorruptData(f"{what}: the header is not JSON") from None
    pieces = [Piece(0, 8 + size, "container", "header")]
    for name, entry in header.items():
        if name != "__metadata__":
            pieces.append(_tensor(name, entry, 8 + size, what))
    return Plain("safetensors", data, tiled(pieces, len(data), what))


def _tensor(name: str, entry: Any, base: int, what: str) -> Piece:
    where = f"{what}: {name[:80]}"
    match entry:
        case {"dtype": str(dtype), "shape": list(shape), "data_offsets": [int(begin), int(end)]}:
            pass
        case _:
            raise BadCheckpoint(f"{where}: odd entry", expected="dtype, shape, data_offsets")
    number = NUMBERS.get(dtype)
    if number is None:
        raise UnsupportedFormat(f"{where}: unknown dtype", found=dtype[:40])
    if not all(type(n) is int and 0 <= n < 1 << 48 for n in shape) or len(shape) > 16:
        raise BadCheckpoint(f"{where}: odd shape", found=repr(shape)[:80])
    if begin < 0 or end - begin != numbers(shape) * SIZES[number]:
        raise BadCheckpoint(
            f"{where}: size and shape disagree",
            expected=f"{numbers(shape) * SIZES[number]} bytes",
            found=end - begin,
        )
    kind, tensor = described((name,), number)
    return Piece(
        base + begin, end - begin, "weights", kind, tensor, number, numbers(shape), tuple(shape),
        (name,),
    )  # fmt: skip
