"""Which reader a file is for, decided by its content. Each reader is imported when it is needed."""

from __future__ import annotations

from pathlib import Path

from squeeze.outside import script
from squeeze.outside.result import Outside
from squeeze.outside.source import Source


def read(name: str, data: bytes, with_floors: bool = False) -> Outside | None:
    """Take one file apart; None when it is of no format known here, and one row is all there is.

    Raises CorruptData, BadCheckpoint or UnsupportedFormat when it is of a format and is malformed.
    """
    if script.looks(data) or Path(name).suffix == ".py":
        return _code(name, Source(data))
    from squeeze.outside.exports import read_tensors

    return read_tensors(name, data, with_floors)


def _code(name: str, source: Source) -> Outside | None:
    packed = script.read(source, name)
    if packed is None:
        rows = script.plain_rows(name, source)
        return None if rows is None else Outside("source", tuple(rows))
    held = f"not read: {packed.unread}"
    if packed.code is not None:
        held = f"are {len(packed.code):,} of source"
    note = f"{name}: {packed.compressed:,} bytes of {packed.coder} {held}"
    return Outside("script", tuple(script.rows(name, packed)), notes=(note,))
