"""Zip archives in memory: their directory, and entries that inflate no further than they declare.

The standard library's `zipfile` makes an object for each of a million entries before anyone can count
them, and inflates an entry that lies about its size as far as its stream goes. Layout: PKWARE APPNOTE
4.3.7 (local header), 4.3.12 (directory), 4.3.14 and 4.3.16 (its ends), 4.5.3 (zip64).
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

from squeeze.errors import CorruptData
from squeeze.outside.inflate import inflate

MAGIC = b"PK\x03\x04"
MAX_ENTRIES = 1 << 16
STORED, DEFLATED = 0, 8  # methods
_LOCAL = struct.Struct("<4s5H3L2H")
_DIRECTORY = struct.Struct("<4s6H3L5H2L")
_END = struct.Struct("<4s4H2LH")
_END64 = struct.Struct("<4sQ2H2L4Q")
_LOCATOR = struct.Struct("<4sLQL")
_LONGEST_COMMENT = (1 << 16) - 1
_IN_ZIP64 = (
    1 << 32
) - 1  # a size or offset of the directory that stands in its zip64 field instead


@dataclass(frozen=True, slots=True)
class Entry:
    """An entry of an archive: its bytes are [start, start + size) of the file.

    inflated: bytes it declares to inflate to. method: how it is compressed. crc: CRC-32 of those bytes,
    None where none is kept.
    """

    name: str
    start: int
    size: int
    inflated: int
    method: int
    crc: int | None = None

    @property
    def stored(self) -> bool:
        """True where the bytes are plain."""
        return self.method == STORED


def entries(data: memoryview, what: str) -> list[Entry]:
    """Return the entries of an archive, by their places. Raises CorruptData when it is damaged."""
    try:
        listed = list(_directory(data, what))
    except struct.error as error:
        raise CorruptData(f"{what}: damaged zip archive", found=str(error)[:80]) from None
    if len({entry.name for entry in listed}) != len(listed):
        raise CorruptData(f"{what}: damaged zip archive", found="two entries of one name")
    return sorted(listed, key=lambda entry: entry.start)


def content(data: memoryview, entry: Entry, limit: int, what: str) -> memoryview:
    """Return an entry's plain bytes, at most `limit`; without a copy where they are stored plainly.

    Raises CorruptData: too long, damaged, or of a method other than STORED and DEFLATED.
    """
    where = f"{what}: entry {entry.name[:80]!r}"
    if entry.inflated > limit:
        raise CorruptData(
            f"{where} inflates too far", expected=f"≤ {limit} bytes", found=entry.inflated
        )
    plain = data[entry.start : entry.start + entry.size]
    if entry.method == DEFLATED:
        plain = memoryview(inflate(plain, "deflate", where, entry.inflated))
    elif not entry.stored:
        raise CorruptData(f"{where}: unknown compression method", found=entry.method)
    if len(plain) != entry.inflated:
        raise CorruptData(
            f"{where} is damaged", expected=f"{entry.inflated} bytes", found=len(plain)
        )
    if entry.crc is not None and zlib.crc32(plain) != entry.crc:
        raise CorruptData(f"{where} is damaged", expected=f"CRC-32 {entry.crc:08x}")
    return plain


def _directory(data: memoryview, what: str) -> Iterator[Entry]:
    start, size, shift = _place(data, what)
    at, end, count = start, start + size, 0
    while at < end:
        (magic, _, _, flags, method, _, _, crc, packed, inflated, *lengths, _, _, _, local) = (
            _DIRECTORY.unpack_from(data, at)
        )
        name_length, extra_length, comment_length = lengths
        count += 1
        if count > MAX_ENTRIES:
            raise CorruptData(f"{what}: too many entries", expected=f"≤ {MAX_ENTRIES}")
        if magic != b"PK\x01\x02":
            raise CorruptData(f"{what}: damaged zip archive", found="an odd directory")
        at += _DIRECTORY.size
        raw = bytes(data[at : at + name_length])
        extra = data[at + name_length : at + name_length + extra_length]
        inflated, packed, local = _widened(extra, [inflated, packed, local])
        name = raw.decode("utf-8" if flags & 0x800 else "cp437", "replace")
        local += shift
        if flags & 1:
            raise CorruptData(f"{what}: entry {name[:80]!r} is encrypted")
        first = _behind_header(data, local, raw)
        if first is None:
            raise CorruptData(f"{what}: entry {name[:80]!r} has no header where it should")
        if first + packed > len(data):
            raise CorruptData(f"{what}: damaged zip archive", found=f"{name[:80]!r} is cut off")
        yield Entry(name, first, packed, inflated, method, crc)
        at += name_length + extra_length + comment_length


def _behind_header(data: memoryview, at: int, name: bytes) -> int | None:
    """Return where the bytes of an entry begin; None when no header of that name stands at `at`."""
    if not 0 <= at <= len(data) - _LOCAL.size or data[at : at + 4] != MAGIC:
        return None
    *_, name_length, extra_length = _LOCAL.unpack_from(data, at)
    begin = at + _LOCAL.size
    if data[begin : begin + name_length] != name:
        return None
    return int(begin + name_length + extra_length)


def _place(data: memoryview, what: str) -> tuple[int, int, int]:
    """Return the directory's place and size, and what stands before the archive: bytes to add to its
    offsets."""
    tail = bytes(data[max(len(data) - _END.size - _LONGEST_COMMENT, 0) :])
    at = tail.rfind(b"PK\x05\x06")
    if at < 0 or at + _END.size > len(tail):
        raise CorruptData(f"{what}: damaged zip archive", found="no directory")
    ended = len(data) - len(tail) + at
    *_, size, offset, _ = _END.unpack_from(data, ended)
    locator = ended - _LOCATOR.size
    if locator >= 0 and bytes(data[locator : locator + 4]) == b"PK\x06\x07":
        ended = locator - _END64.size
        magic, *_, size, offset = _END64.unpack_from(data, max(ended, 0))
        if magic != b"PK\x06\x06":
            raise CorruptData(f"{what}: damaged zip archive", found="no zip64 directory")
    start = ended - size
    if start < 0 or offset > start:
        raise CorruptData(f"{what}: damaged zip archive", found="a directory outside the file")
    return start, size, start - offset


def _widened(extra: memoryview, fields: list[int]) -> list[int]:
    """Return sizes and offset with those that did not fit taken from the zip64 extra field."""
    at = 0
    while at + 4 <= len(extra):
        kind, length = struct.unpack_from("<2H", extra, at)
        if kind == 1:
            wide = iter(struct.unpack_from(f"<{min(length, 24) // 8}Q", extra, at + 4))
            return [next(wide, field) if field == _IN_ZIP64 else field for field in fields]
        at += 4 + length
    return fields
