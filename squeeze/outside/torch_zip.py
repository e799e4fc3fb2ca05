"""`torch.save` files: a zip archive with data.pkl and one entry for each storage.

Every byte from a local header to the next one belongs to that entry: numbers to the tensors that view
the storage (by elements when there are several), the pickle to itself, headers, alignment and the
directory to the archive. Source of the layout: torch.serialization (zip format since torch 1.6).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from squeeze.errors import BadCheckpoint, CorruptData, UnsupportedFormat
from squeeze.outside import pickles
from squeeze.outside.naming import described
from squeeze.outside.pickles import TensorView
from squeeze.outside.pieces import (
    MAX_TENSORS,
    SIZES,
    Piece,
    Plain,
    divided,
    numbers,
    tiled,
    too_many_tensors,
)
from squeeze.outside.zip_archive import Entry, content, entries

NUMBERS = {
    "DoubleStorage": "fp64", "FloatStorage": "fp32", "HalfStorage": "fp16",
    "BFloat16Storage": "bf16", "CharStorage": "int8", "ByteStorage": "uint8",
    "BoolStorage": "bool", "ShortStorage": "int16", "IntStorage": "int32",
    "LongStorage": "int64", "ComplexFloatStorage": "complex64",
    "ComplexDoubleStorage": "complex128", "UntypedStorage": "uint8",
    "float8_e4m3fn": "fp8", "float8_e5m2": "fp8", "float8_e4m3fnuz": "fp8",
    "float8_e5m2fnuz": "fp8", "float8_e8m0fnu": "fp8", "uint16": "uint16", "uint32": "uint32",
    "uint64": "uint64",
}  # fmt: skip
PICKLE = "data.pkl"
_OWN = (
    "collections ",
    "torch Size",
    "torch device",
    "torch._utils _rebuild_",
    "torch.serialization _get_layout",
)


@dataclass(frozen=True)
class TorchFile:
    """A torch file without the numbers of its tensors.

    root: the object it holds, as `pickles.describe` describes it. storages: an entry by storage key.
    pickle: the entry that describes the object. entries: all of them, by their places.
    """

    root: Any
    storages: dict[str, Entry]
    pickle: Entry
    entries: list[Entry]


def looks(data: memoryview, what: str) -> bool:
    """Return whether an archive has the pickle of a torch file. Raises CorruptData when damaged."""
    return any(entry.name.endswith(f"/{PICKLE}") for entry in entries(data, what))


def opened(data: memoryview, what: str) -> TorchFile:
    """Return a torch file's object and storages; nothing in it is executed.

    Raises CorruptData, BadCheckpoint, UnsupportedFormat.
    """
    listed = entries(data, what)
    pickled = [entry for entry in listed if entry.name.endswith(f"/{PICKLE}")]
    if len(pickled) != 1:
        raise UnsupportedFormat(
            f"{what}: not a torch file", expected=f"one {PICKLE}", found=len(pickled)
        )
    folder = pickled[0].name.removesuffix(PICKLE)
    order = [entry for entry in listed if entry.name == f"{folder}byteorder"]
    if order and bytes(content(data, order[0], 16, what)) != b"little":
        raise UnsupportedFormat(f"{what}: its numbers are not little-endian")
    root = pickles.describe(content(data, pickled[0], pickles.MAX_SIZE, what), what)
    storages = {
        entry.name.removeprefix(f"{folder}data/"): entry
        for entry in listed
        if entry.name.startswith(f"{folder}data/")
    }
    return TorchFile(root, storages, pickled[0], listed)


def checked(view: TensorView, path: tuple[str, ...], what: str) -> tuple[str, int]:
    """Return the kind of a tensor's values (a key of SIZES) and their number in its storage.

    Raises UnsupportedFormat for values of an unknown kind, BadCheckpoint for a view that leaves its
    storage.
    """
    kind = view.dtype or view.storage.kind
    number = NUMBERS.get(kind)
    if number is None:
        raise UnsupportedFormat(f"{what}: tensor of an unknown kind", found=kind[:60])
    held = view.storage.elements // (SIZES[number] if view.dtype else 1)
    last = view.offset + sum(
        (n - 1) * step for n, step in zip(view.shape, view.strides, strict=True)
    )
    if numbers(view.shape) and last >= held:
        raise BadCheckpoint(
            f"{what}: tensor {'.'.join(path)[:80]} reaches over the end of its storage",
            expected=f"≤ {held} elements",
            found=last + 1,
        )
    return number, held


def read(data: memoryview, what: str) -> Plain:
    """Return the pieces of a torch file. Raises CorruptData, BadCheckpoint, UnsupportedFormat."""
    return pieces_of(opened(data, what), data, what, "zip")


def pieces_of(file: TorchFile, data: memoryview, what: str, between: str) -> Plain:
    """Return the pieces of an opened file; `between`: kind of the bytes that no entry holds."""
    owners = _owners(file.root, what)
    keys = {entry.name: key for key, entry in file.storages.items()}
    pieces: list[Piece] = []
    for entry in file.entries:
        if entry is file.pickle:
            pieces.append(Piece(entry.start, entry.size, "container", "pickle"))
        elif entry.name in keys:
            pieces += _storage(entry, owners.pop(keys[entry.name], []), what)
        else:
            pieces.append(Piece(entry.start, entry.size, "container", between))
    if owners:
        raise BadCheckpoint(
            f"{what}: storages are missing", found=", ".join(sorted(owners)[:5])[:120]
        )
    return Plain(
        "torch",
        data,
        tiled(pieces, len(data), what, between),
        _facts(file.root),
        _notes(file.root, what),
    )


def _owners(root: Any, what: str) -> dict[str, list[Piece]]:
    """Return tensors by storage key, as pieces whose place is not known yet; a view is listed once."""
    owners: dict[str, list[Piece]] = {}
    visited = set()
    for path, view in pickles.tensors(root, what):
        number, held = checked(view, path, what)
        count = numbers(view.shape)
        identity = (view.storage.key, view.offset, view.shape, view.strides)
        if identity in visited:
            continue  # tied weights: the bytes are the first one's
        visited.add(identity)
        if len(visited) > MAX_TENSORS:
            raise too_many_tensors(what)
        kind, tensor = described(path, number)
        # a view may repeat elements; a ledger counts each stored one once
        dense = count == held and view.strides == _strides(view.shape)
        piece = Piece(
            view.offset,
            held,
            "weights",
            kind,
            tensor,
            number,
            min(count, held),
            view.shape if dense else None,
            path,
        )
        owners.setdefault(view.storage.key, []).append(piece)
    return owners


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
    if entry.inflated < needed:
        raise CorruptData(
            f"{what}: storage of {owners[0].tensor[:80]} is too short",
            expected=f"{needed} bytes",
            found=entry.inflated,
        )
    whole = Piece(entry.start, entry.size, "weights", "")
    if len(owners) == 1:
        (owner,) = owners
        shape = owner.shape if entry.stored and entry.size == needed else None
        yield Piece(
            entry.start,
            entry.size,
            owner.component,
            owner.kind,
            owner.tensor,
            owner.number,
            owner.elements,
            shape,
            owner.path,
        )
    else:
        yield from divided(whole, owners)


def _facts(root: Any) -> dict[str, str]:
    """Return the quantization format and the original dtypes, where the file says them."""
    facts: dict[str, str] = {}
    if isinstance(root, dict):
        if isinstance(root.get("__quant_format__"), str):
            facts["quantization"] = root["__quant_format__"][:80]
        for key in ("dtypes", "passthrough_orig_dtypes"):
            inner = root.get(key)
            if isinstance(inner, dict):
                facts |= {f"dtype {k}": v for k, v in inner.items() if isinstance(v, str)}
    return facts


def foreign(root: Any) -> str:
    """Return the first few names that unpickling would call beside torch's own, in Python's way."""
    names = sorted(name for name in pickles.calls(root) if not name.startswith(_OWN))
    return ", ".join(name.replace(" ", ".") for name in names[:3])[:120]


def _notes(root: Any, what: str) -> tuple[str, ...]:
    names = foreign(root)
    note = f"{what} would call {names} when it is unpickled; nothing was executed here"
    return (note,) if names else ()
