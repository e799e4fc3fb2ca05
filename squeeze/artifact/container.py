"""The `.sqz` container: prologue, header and streams back to back. Spec: docs/format.md, §1 and §2.

Standard library only, so that `squeeze budget` and `squeeze inspect` start at once. The header's fields
are `squeeze.artifact.header`'s, the records of tensors and streams `squeeze.artifact.layout`'s.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from squeeze.artifact.header import decode_header, encode_header
from squeeze.artifact.layout import StreamRecord, TensorRecord
from squeeze.errors import CorruptData, UnsupportedFormat

MAGIC = b"SQZ\x1a"
VERSION = 1
PROLOGUE_SIZE = 22
DIGEST_SIZE = 8
MAX_HEADER = 1 << 20  # bytes of the compressed header
WEIGHTS_PER_BYTE = 64  # at most, in a file of more than FEW_WEIGHTS weights
FEW_WEIGHTS = 1 << 22


@dataclass(frozen=True)
class Container:
    """A parsed file: configuration, tensors and streams; `header_size` in bytes."""

    config: dict[str, object]
    tensors: tuple[TensorRecord, ...]
    streams: tuple[StreamRecord, ...]
    digest: bytes
    header_size: int


def assemble(content: bytes, streams: Sequence[tuple[int, bytes]], digest: bytes) -> bytes:
    """Return the whole file; the inverse of `parse`.

    content: fields of `squeeze.artifact.header.content_fields`
    streams: (codec id, bytes) in file order
    digest: of the content (§6)

    Raises UnsupportedFormat when the header is too large.
    """
    header = encode_header(content, [(codec, len(data)) for codec, data in streams])
    if len(header) > MAX_HEADER:
        raise UnsupportedFormat(
            "the header does not fit", expected=f"≤ {MAX_HEADER} bytes", found=len(header)
        )
    fixed = MAGIC + bytes([VERSION, 0]) + len(header).to_bytes(4, "little")
    rest = digest + header + b"".join(data for _, data in streams)
    crc = zlib.crc32(rest, zlib.crc32(fixed))
    return fixed + crc.to_bytes(4, "little") + rest


def parse(data: bytes) -> Container:
    """Check a file and return the content of its header; streams are located, not decoded.

    Raises CorruptData or UnsupportedFormat, one message a cause (tests/golden-errors holds one file
    for each).
    """
    if data[:4] != MAGIC:
        raise UnsupportedFormat(
            "not a .sqz file",
            expected=f"magic {MAGIC.hex()}",
            found=data[:4].hex() or "an empty file",
        )
    if len(data) < PROLOGUE_SIZE:
        raise CorruptData(
            "file ends inside its prologue", expected=f"{PROLOGUE_SIZE} bytes", found=len(data)
        )
    if data[4] != VERSION:
        raise UnsupportedFormat(
            "unknown .sqz version", expected=VERSION, found=data[4], fix="Use a newer squeeze."
        )
    if data[5] != 0:
        raise UnsupportedFormat("reserved flags are set", expected=0, found=data[5])
    header_size = int.from_bytes(data[6:10], "little")
    if header_size > MAX_HEADER:
        raise CorruptData(
            "header is too large", expected=f"≤ {MAX_HEADER} bytes", found=header_size
        )
    if PROLOGUE_SIZE + header_size > len(data):
        raise CorruptData(
            "file ends inside its header",
            expected=f"{PROLOGUE_SIZE + header_size} bytes",
            found=len(data),
        )
    if checksum(data) != data[10:14]:
        raise CorruptData(
            "file checksum does not match: the file is truncated or was changed",
            expected=data[10:14][::-1].hex(),
            found=checksum(data)[::-1].hex(),
            fix="Copy or download it again.",
        )
    start = PROLOGUE_SIZE + header_size
    config, tensors, streams = decode_header(data[PROLOGUE_SIZE:start], start)
    end = streams[-1].offset + streams[-1].size if streams else start
    if end != len(data):
        raise CorruptData(
            "streams do not end where the file ends", expected=f"{end} bytes", found=len(data)
        )
    weights, room = sum(t.elements for t in tensors), max(FEW_WEIGHTS, WEIGHTS_PER_BYTE * len(data))
    if weights > room:
        raise CorruptData(
            "more weights than a file of this size may hold", expected=f"≤ {room}", found=weights
        )
    return Container(
        config=config,
        tensors=tensors,
        streams=streams,
        digest=bytes(data[14:22]),
        header_size=header_size,
    )


def checksum(data: bytes) -> bytes:
    """Return what the bytes 10 to 14 of a file have to be: the CRC-32 of all others."""
    return zlib.crc32(memoryview(data)[14:], zlib.crc32(data[:10])).to_bytes(4, "little")


def stream_bytes(data: bytes, container: Container) -> Iterator[memoryview]:
    """Yield the encoded bytes of each stream, in order, without a copy."""
    view = memoryview(data)
    for stream in container.streams:
        yield view[stream.offset : stream.offset + stream.size]
