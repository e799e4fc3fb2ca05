"""Exports of others: which reader a file of tensors is for, once nothing is compressed or shuffled."""

from __future__ import annotations

from pathlib import Path

from squeeze.errors import CorruptData
from squeeze.outside import (
    group_container,
    llama_bin,
    safe_tensors,
    torch_old,
    torch_zip,
    zip_archive,
)
from squeeze.outside.inflate import LRZIP, bound, coder_of, inflate
from squeeze.outside.pieces import Plain, entropies, rows
from squeeze.outside.result import Outside
from squeeze.outside.shuffle import unshuffled
from squeeze.rows import Row

BROTLI_ENDINGS = (".ptz", ".br", ".brotli", ".bin", ".pt", ".pth")  # brotli has no magic to go by
LAYERS = 2  # compressed streams inside each other


def read_tensors(name: str, data: bytes, with_floors: bool) -> Outside | None:
    """Take a file of tensors apart; None when it is of no format known here.

    with_floors: compute entropies, too, where nothing is compressed. Raises as
    `squeeze.outside.registry.read`.
    """
    view = memoryview(data)
    if data[:4] == group_container.MAGIC:
        made, floors, notes = group_container.read(name, view)
        return Outside("PGRP", tuple(made), floors, tuple(notes))
    inside, coders = uncompressed(view, name)
    codec = " ".join(coders)
    plain = _plain(inside, name)
    if plain is None:
        return _unknown(name, len(data), inside, codec)
    measured = entropies(plain) if codec or with_floors else []
    floors = {}
    for piece, floor in zip(plain.pieces, measured, strict=False):
        key = (name, piece.tensor, piece.kind)
        floors[key] = floors.get(key, 0.0) + floor
    made = rows(name, plain, len(data), codec, measured)
    said = (*plain.notes, *_packed_notes(plain, name))
    return Outside(f"{plain.format} {codec}".strip(), tuple(made), floors, said, plain)


def _packed_notes(plain: Plain, name: str) -> list[str]:
    """Return a sentence on unsigned bytes, each of which may be several codes; none without any."""
    count = sum(p.elements for p in plain.pieces if p.kind == "codes" and p.number == "uint8")
    said = "where several codes are packed into one, there are more weights, at fewer bits"
    return [f"{name}: {count:,} unsigned bytes count as a weight each; {said}"] if count else []


def uncompressed(view: memoryview, name: str) -> tuple[memoryview, list[str]]:
    """Return a file's bytes once nothing is compressed or shuffled, and the names of what was undone.

    Raises CorruptData for a stream that is damaged or inflates too far.
    """
    coders: list[str] = []
    limit = bound(len(view))  # of every layer: a stream inside another is no larger a file
    while len(coders) < LAYERS and not _known(view):
        coder = coder_of(view)
        inflated: bytes | bytearray | None = None
        if coder is not None:
            inflated = inflate(view, coder, name, limit)
        elif not coders and Path(name).suffix in BROTLI_ENDINGS:
            coder, inflated = "brotli", _brotli(view, name)
        if coder is None or inflated is None:
            break
        plain, stride = unshuffled(inflated)
        coders += [coder, f"shuffle {stride}"] if stride else [coder]
        view = memoryview(plain)
    return view, coders


def _known(view: memoryview) -> bool:
    """Return whether the bytes are of a format that is not compressed as a whole."""
    return (
        safe_tensors.looks(view)
        or torch_old.looks(view)
        or bytes(view[:4]) in (zip_archive.MAGIC, llama_bin.MAGIC, LRZIP)
        or llama_bin.shape_of(view) is not None
    )


def _brotli(view: memoryview, name: str) -> bytes | bytearray | None:
    try:
        return inflate(view, "brotli", name)
    except CorruptData as error:
        if "inflates too far" in str(error):
            raise
        return None  # any bytes might have been brotli


def _plain(view: memoryview, name: str) -> Plain | None:
    if safe_tensors.looks(view):
        return safe_tensors.read(view, name)
    if torch_old.looks(view):
        return torch_old.read(view, name)
    if bytes(view[:4]) == zip_archive.MAGIC:
        return torch_zip.read(view, name) if torch_zip.looks(view, name) else None
    if bytes(view[:4]) == llama_bin.MAGIC or llama_bin.shape_of(view) is not None:
        return llama_bin.read(view, name)
    return None


def _unknown(name: str, size: int, inside: memoryview, codec: str) -> Outside | None:
    if bytes(inside[:4]) == LRZIP:
        codec = f"{codec} lrzip".strip()
        note = f"{name}: an lrzip stream, not decoded"
    elif codec:
        note = f"{name}: {codec} of {len(inside):,} bytes of no known format"
    else:
        return None
    return Outside(codec, (Row(name, "other", "file", size, codec=codec),), notes=(note,))
