"""`torch.save` files: a zip archive with data.pkl and one entry for each storage.

Every byte from a local header to the next one belongs to that entry: numbers to the tensors that view
the storage (by elements when there are several), the pickle to itself, headers, alignment and the
directory to the archive. Source of the layout: torch.serialization (zip format since torch 1.6).
"""

from __future__ import annotations

import io
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from squeeze.errors import BadCheckpoint, CorruptData, UnsupportedFormat
from squeeze.outside import pickles
from squeeze.outside.naming import described
from squeeze.outside.pieces import SIZES, Piece, Plain, divided, numbers, tiled

MAGIC = b"PK\x03\x04"
MAX_ENTRIES = 1 << 16
HEADER = 30  # bytes of a local header before name and extra field
NUMBERS = {
    "DoubleStorage": "fp64", "FloatStorage": "fp32", "HalfStorage": "fp16",
    "BFloat16Storage": "bf16", "CharStorage": "int8", "ByteStorage": "uint8",
    "BoolStorage": "bool", "ShortStorage": "int16", "IntStorage": "int32",
    "LongStorage": "int64", "ComplexFloatStorage": "complex64",
    "ComplexDoubleStorage": "complex128", "UntypedStorage": "uint8",
}  # fmt: skip


@dataclass(frozen=True)
class Entry:
    """An entry of an archive: where its bytes are, and whether they are plain there."""

    info: zipfile.ZipInfo
    start: int
    size: int

    @property
    def stored(self) -> bool:
        return self.info.compress_type == zipfile.ZIP_STORED


class _View(io.RawIOBase):
    """Bytes as a file to read, without the copy that BytesIO makes of a memoryview."""

    def __init__(self, data: memoryview) -> None:
        self.data, self.at = data, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        at = offset + (0, self.at, len(self.data))[whence]
        if at < 0:
            raise ValueError(f"negative seek to {at}")
        self.at = at
        return at

    def readinto(self, buffer: Any) -> int:
        part = self.data[self.at : self.at + len(buffer)]
        buffer[: len(part)] = part
        self.at += len(part)
        return len(part)


def entries(data: memoryview, what: str) -> tuple[zipfile.ZipFile, list[Entry]]:
    """The archive and its entries in file order. Raises CorruptData when it is damaged."""
    try:
        archive = zipfile.ZipFile(io.BufferedReader(_View(data)))
        infos = archive.infolist()
    except (zipfile.BadZipFile, ValueError, NotImplementedError, OverflowError) as error:
        raise CorruptData(f"{what}: damaged zip archive", found=str(error)[:80]) from None
    if len(infos) > MAX_ENTRIES:
        raise CorruptData(
            f"{what}: too many entries", expected=f"≤ {MAX_ENTRIES}", found=len(infos)
        )
    found = []
    for info in infos:
        local = data[info.header_offset : info.header_offset + HEADER]
        if len(local) < HEADER or bytes(local[:4]) != MAGIC:
            raise CorruptData(f"{what}: entry {info.filename[:80]!r} has no header where it should")
        extra = int.from_bytes(local[26:28], "little") + int.from_bytes(local[28:30], "little")
        found.append(Entry(info, info.header_offset + HEADER + extra, info.compress_size))
    return archive, sorted(found, key=lambda entry: entry.start)


def looks(data: memoryview, what: str) -> bool:
    """Whether an archive has the pickle of a torch file. Raises CorruptData when it is damaged."""
    return any(entry.info.filename.endswith("/data.pkl") for entry in entries(data, what)[1])


def content(archive: zipfile.ZipFile, entry: Entry, limit: int, what: str) -> bytes:
    """An entry's plain bytes, at most `limit`. Raises CorruptData."""
    if entry.info.file_size > limit:
        raise CorruptData(
            f"{what}: entry {entry.info.filename[:80]!r} inflates too far",
            expected=f"≤ {limit} bytes",
            found=entry.info.file_size,
        )
    try:
        return archive.read(entry.info)
    except (
        zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError,
        OSError, MemoryError,
    ) as error:  # fmt: skip
        raise CorruptData(
            f"{what}: entry {entry.info.filename[:80]!r} is damaged", found=str(error)[:80]
        ) from None


def read(data: memoryview, what: str) -> Plain:
    """Pieces of a torch file. Raises CorruptData, BadCheckpoint, UnsupportedFormat."""
    archive, found = entries(data, what)
    pickled = [entry for entry in found if entry.info.filename.endswith("/data.pkl")]
    if len(pickled) != 1:
        raise UnsupportedFormat(
            f"{what}: not a torch file", expected="one data.pkl", found=len(pickled)
        )
    root = pickles.describe(content(archive, pickled[0], pickles.MAX_SIZE, what), what)
    folder = pickled[0].info.filename.removesuffix("data.pkl")
    views = _views(root, what)
    pieces: list[Piece] = []
    for entry in found:
        name = entry.info.filename
        if entry is pickled[0]:
            pieces.append(Piece(entry.start, entry.size, "container", "pickle"))
        elif name.startswith(f"{folder}data/"):
            owners = views.pop(name.removeprefix(f"{folder}data/"), [])
            pieces += _storage(entry, owners, what)
        else:
            pieces.append(Piece(entry.start, entry.size, "container", "zip"))
    if views:
        raise BadCheckpoint(
            f"{what}: storages are missing", found=", ".join(sorted(views)[:5])[:120]
        )
    return Plain(
        "torch", data, tiled(pieces, len(data), what, "zip"), _facts(root), _notes(root, what)
    )


def _views(root: Any, what: str) -> dict[str, list[Piece]]:
    """Tensors by storage key, as pieces whose place is not known yet; a view is listed once."""
    found: dict[str, list[Piece]] = {}
    seen = set()
    for path, view in pickles.tensors(root, what):
        number = NUMBERS.get(view.storage.kind)
        if number is None:
            raise UnsupportedFormat(
                f"{what}: tensor of an unknown kind", found=view.storage.kind[:60]
            )
        count = numbers(view.shape)
        last = view.offset + sum(
            (n - 1) * step for n, step in zip(view.shape, view.strides, strict=True)
        )
        if count and last >= view.storage.elements:
            raise BadCheckpoint(
                f"{what}: tensor {'.'.join(path)[:80]} reaches over the end of its storage",
                expected=f"≤ {view.storage.elements} elements",
                found=last + 1,
            )
        if (view.storage.key, view.offset, view.shape, view.strides) in seen:
            continue  # tied weights: the bytes are the first one's
        seen.add((view.storage.key, view.offset, view.shape, view.strides))
        kind, tensor = described(path, number)
        # a view may repeat elements; a ledger counts each stored one once
        dense = count == view.storage.elements and view.strides == _strides(view.shape)
        piece = Piece(
            view.offset, view.storage.elements, "weights", kind, tensor, number,
            min(count, view.storage.elements), view.shape if dense else None, path,
        )  # fmt: skip
        found.setdefault(view.storage.key, []).append(piece)
    return found


def _strides(shape: tuple[int, ...]) -> tuple[int, ...]:
    strides, step = [], 1
    for size in reversed(shape):
        strides.append(step)
        step *= size
    return tuple(reversed(strides))


def _storage(entry: Entry, owners: list[Piece], what: str) -> Iterator[Piece]:
    if not owners:
        yield Piece(entry.start, entry.size, "other", "storage")
        return
    needed = max(piece.size * SIZES[piece.number] for piece in owners)
    if entry.info.file_size < needed:
        raise CorruptData(
            f"{what}: storage of {owners[0].tensor[:80]} is too short",
            expected=f"{needed} bytes",
            found=entry.info.file_size,
        )
    whole = Piece(entry.start, entry.size, "weights", "")
    if len(owners) == 1:
        (owner,) = owners
        shape = owner.shape if entry.stored and entry.size == needed else None
        yield Piece(
            entry.start, entry.size, owner.component, owner.kind, owner.tensor, owner.number,
            owner.elements, shape, owner.path,
        )  # fmt: skip
    else:
        yield from divided(whole, owners)


def _facts(root: Any) -> dict[str, str]:
    """The quantization format and the original dtypes, where the file says them."""
    facts: dict[str, str] = {}
    if isinstance(root, dict):
        if isinstance(root.get("__quant_format__"), str):
            facts["quantization"] = root["__quant_format__"][:80]
        for key in ("dtypes", "passthrough_orig_dtypes"):
            inner = root.get(key)
            if isinstance(inner, dict):
                facts |= {f"dtype {k}": v for k, v in inner.items() if isinstance(v, str)}
    return facts


def _notes(root: Any, what: str) -> tuple[str, ...]:
    foreign = sorted(
        name for name in pickles.calls(root) if not name.startswith(("collections ", "torch "))
    )
    if not foreign:
        return ()
    listed = ", ".join(name.replace(" ", ".") for name in foreign[:3])[:120]
    return (f"{what} would call {listed} when it is unpickled; nothing was executed here",)
