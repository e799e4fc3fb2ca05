"""`torch.save` files from before torch 1.6: pickles one after another, then the numbers.

The pickles are a magic number, the version, facts about the machine, the object, and the keys of the
storages in the order in which they follow, each as its number of elements (int64) and its bytes. Source
of the layout: `_legacy_save` in torch.serialization, which recent releases still write when asked to.
"""

from __future__ import annotations

import struct
from typing import Any

from squeeze.errors import BadCheckpoint, CorruptData, UnsupportedFormat
from squeeze.outside import pickles
from squeeze.outside.pickles import Storage
from squeeze.outside.pieces import MAX_TENSORS, SIZES, Plain, too_many_tensors
from squeeze.outside.torch_zip import NUMBERS, TorchFile, pieces_of
from squeeze.outside.zip_archive import STORED, Entry

MAGIC = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."  # the first pickle
VERSION = 1001
_ELEMENTS = struct.Struct("<q")


def looks(data: memoryview) -> bool:
    """Return whether the bytes start like one."""
    return bytes(data[: len(MAGIC)]) == MAGIC


def opened(data: memoryview, what: str) -> TorchFile:
    """Return a file's object and storages; nothing in it is executed.

    Raises CorruptData, BadCheckpoint, UnsupportedFormat.
    """
    version, at = pickles.describe_at(data, len(MAGIC), what)
    machine, start = pickles.describe_at(data, at, what)
    little = isinstance(machine, dict) and machine.get("little_endian") is True
    if version != VERSION or not little:
        raise UnsupportedFormat(
            f"{what}: not a torch file of a known kind",
            expected=f"version {VERSION}, numbers little-endian",
        )
    root, end = pickles.describe_at(data, start, what)
    pickle = Entry("object", start, end - start, end - start, STORED)
    keys, at = pickles.describe_at(data, end, what)
    if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys):
        raise BadCheckpoint(f"{what}: odd keys of storages", expected="a list of text")
    if len(keys) > MAX_TENSORS:
        raise too_many_tensors(what)
    known = {view.storage.key: view.storage for _, view in pickles.tensors(root, what)}
    storages: dict[str, Entry] = {}
    for key in keys:
        storages[key] = _storage(data, at, known.get(key), what)
        at = storages[key].start + storages[key].size
    if len(storages) != len(keys):
        raise CorruptData(f"{what}: two storages of one key")
    return TorchFile(root, storages, pickle, [pickle, *storages.values()])


def read(data: memoryview, what: str) -> Plain:
    """Return the pieces of a file. Raises CorruptData, BadCheckpoint, UnsupportedFormat."""
    return pieces_of(opened(data, what), data, what, "pickle")


def _storage(data: memoryview, at: int, storage: Any, what: str) -> Entry:
    """Return where the numbers of a storage are, whose size in bytes only its tensors tell."""
    if not isinstance(storage, Storage):
        raise BadCheckpoint(f"{what}: numbers that are of no tensor")
    number, first = NUMBERS.get(storage.kind), at + _ELEMENTS.size
    if number is None:
        raise UnsupportedFormat(f"{what}: tensor of an unknown kind", found=storage.kind[:60])
    size = storage.elements * SIZES[number]
    if first + size > len(data):
        raise CorruptData(f"{what} is cut off", expected=f"≥ {first + size} bytes", found=len(data))
    (elements,) = _ELEMENTS.unpack_from(data, at)
    if elements != storage.elements:
        raise CorruptData(
            f"{what}: storage {storage.key[:40]}", expected=storage.elements, found=elements
        )
    return Entry(f"storage {storage.key}", first, size, size, STORED)
