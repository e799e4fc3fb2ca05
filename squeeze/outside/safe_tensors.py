"""safetensors: 8-byte header size, JSON header, numbers. Format: the safetensors README.

The one reader of such headers here: what it refuses, no command takes.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from squeeze.errors import BadCheckpoint, CorruptData, UnsupportedFormat
from squeeze.outside.naming import described
from squeeze.outside.pieces import (
    MAX_TENSORS,
    SIZES,
    Piece,
    Plain,
    check_extent,
    numbers,
    tiled,
    too_many_tensors,
)

MAX_HEADER = 8 << 20  # bytes: 128 for each of MAX_TENSORS; JSON takes 24 times as many in memory
NUMBERS = {
    "F64": "fp64", "F32": "fp32", "F16": "fp16", "BF16": "bf16", "F8_E4M3": "fp8",
    "F8_E5M2": "fp8", "F8_E8M0": "fp8", "I64": "int64", "U64": "uint64", "I32": "int32",
    "U32": "uint32", "I16": "int16", "U16": "uint16", "I8": "int8", "U8": "uint8", "BOOL": "bool",
    "C64": "complex64",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Entry:
    """Tensor of a file: its bytes are [start, start + size) of the file.

    dtype: in the format's spelling. number: the same as a key of SIZES.
    """

    name: str
    dtype: str
    number: str
    shape: tuple[int, ...]
    start: int
    size: int


@dataclass(frozen=True)
class Header:
    """The header of a file. size: in bytes, with the eight that say it. tensors: as they lie."""

    size: int
    tensors: list[Entry]
    metadata: dict[str, str]


def looks(data: memoryview) -> bool:
    """Return whether the bytes start like one: a header size within the file, then a brace."""
    return bytes(data[8:9]) == b"{" and int.from_bytes(data[:8], "little") <= len(data) - 8


def header(data: memoryview, what: str) -> Header:
    """Return the header of a whole file, checked: its tensors tile the rest without hole or overlap.

    Raises BadCheckpoint, CorruptData or UnsupportedFormat.
    """
    size = int.from_bytes(data[:8], "little")
    if size > MAX_HEADER:
        raise CorruptData(
            f"{what}: header too long",
            expected=f"≤ {MAX_HEADER} bytes, for some {MAX_TENSORS} tensors",
            found=size,
        )

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        fields = dict(pairs)
        if len(fields) != len(pairs):
            raise BadCheckpoint(f"{what}: the header names a tensor or a field twice")
        return fields

    try:
        fields = json.loads(bytes(data[8 : 8 + size]), object_pairs_hook=unique)
        "".join(fields).encode()  # half a surrogate pair cannot be printed
    except (ValueError, RecursionError):
        raise CorruptData(f"{what}: the header is not JSON in UTF-8") from None
    metadata = fields.pop("__metadata__", None) or {}
    texts = metadata.values() if isinstance(metadata, dict) else [None]
    if not all(isinstance(text, str) for text in texts):
        raise BadCheckpoint(f"{what}: odd metadata", expected="text by name")
    if len(fields) > MAX_TENSORS:
        raise too_many_tensors(what)
    tensors = [_tensor(name, entry, 8 + size, what) for name, entry in fields.items()]
    tensors.sort(key=lambda tensor: (tensor.start, tensor.size))
    _check_tiling(tensors, 8 + size, len(data), what)
    return Header(8 + size, tensors, metadata)


def read(data: memoryview, what: str) -> Plain:
    """Return the pieces of a safetensors file. Raises as `header` does."""
    head = header(data, what)
    pieces = [Piece(0, head.size, "container", "header")]
    for entry in head.tensors:
        kind, tensor = described((entry.name,), entry.number)
        pieces.append(
            Piece(
                entry.start,
                entry.size,
                "weights",
                kind,
                tensor,
                entry.number,
                numbers(entry.shape),
                entry.shape,
                (entry.name,),
            )
        )
    return Plain("safetensors", data, tiled(pieces, len(data), what))


def _tensor(name: str, entry: Any, base: int, what: str) -> Entry:
    where = f"{what}: tensor {name[:80]}"
    match entry:
        case {"dtype": str(dtype), "shape": list(shape), "data_offsets": [int(begin), int(end)]}:
            pass
        case _:
            raise BadCheckpoint(f"{where} has an odd entry", expected="dtype, shape, data_offsets")
    number = NUMBERS.get(dtype)
    if number is None:
        raise UnsupportedFormat(f"{where} has an unknown dtype", found=dtype[:40])
    if len(shape) > 16 or not all(type(n) is int and 0 <= n < 1 << 48 for n in shape):
        raise BadCheckpoint(f"{where} has an odd shape", expected="up to 16 sizes")
    if bool in (type(begin), type(end)) or not 0 <= begin <= end < 1 << 48:
        raise BadCheckpoint(f"{where} has odd data_offsets", expected="a begin and an end")
    size = numbers(shape) * SIZES[number]
    if end - begin != size:
        raise BadCheckpoint(
            f"{where}: size and shape disagree", expected=f"{size} bytes", found=end - begin
        )
    check_extent(shape, where)
    return Entry(name, dtype, number, tuple(shape), base + begin, size)


def _check_tiling(tensors: list[Entry], start: int, total: int, what: str) -> None:
    """Raise CorruptData unless tensors in order fill [start, total) of the file."""
    at = start
    for tensor in tensors:
        where = f"{what}: tensor {tensor.name[:80]}"
        if tensor.start != at:
            fault = "overlaps the one before it" if tensor.start < at else "lies behind a hole"
            raise CorruptData(
                f"{where} {fault}", expected=f"byte {at - start}", found=tensor.start - start
            )
        at += tensor.size
        if at > total:
            raise CorruptData(
                f"{where} runs over the end of the file",
                expected=f"≤ {total - start} bytes",
                found=at - start,
            )
    if at != total:
        raise CorruptData(
            f"{what}: bytes after the last tensor", expected=at - start, found=total - start
        )
