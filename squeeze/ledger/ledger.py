"""The ledger: every byte of the files that ship, each in exactly one row.

Reads headers only, so it imports neither torch nor numba and takes milliseconds on a 16 MB artifact.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from squeeze import codecs
from squeeze.artifact import container
from squeeze.errors import SqueezeError
from squeeze.files import read_file
from squeeze.ledger.papers import is_paper
from squeeze.rows import Row, split_bytes
from squeeze.tensors.roles import layer_of, role_of

MAX_FILES = 10_000


@dataclass(frozen=True)
class Ledger:
    """Rows and the sizes they must sum to, in bytes. notes: sentences on how files were read."""

    rows: tuple[Row, ...]
    files: dict[str, int]
    notes: tuple[str, ...] = ()

    @property
    def total(self) -> int:
        """Bytes of all files on disk."""
        return sum(self.files.values())

    @property
    def unattributed(self) -> int:
        """Bytes no row claims; 0 unless there is a defect."""
        return self.total - sum(row.bytes for row in self.rows)

    @property
    def weights(self) -> int:
        """Number of weights stored, whatever their precision."""
        return sum(row.elements for row in self.rows if row.kind == "codes" or "raw." in row.kind)

    def bits_per_weight(self) -> float:
        """Bits of weight streams (codes, steps, raw values) per weight."""
        stored = sum(row.bytes for row in self.rows if row.component == "weights")
        return 8 * stored / self.weights if self.weights else 0.0

    def grouped(self, key: Callable[[Row], Any]) -> dict[Any, list[Row]]:
        """Rows by key, in order of first appearance."""
        groups: dict[Any, list[Row]] = {}
        for row in self.rows:
            groups.setdefault(key(row), []).append(row)
        return groups

    def as_json(self, limit: int) -> dict[str, Any]:
        """A plain dictionary for `--json`."""
        return {
            "total": self.total,
            "limit": limit,
            "unused": limit - self.total,
            "unattributed": self.unattributed,
            "weights": self.weights,
            "bits_per_weight": self.bits_per_weight(),
            "files": self.files,
            "notes": list(self.notes),
            "components": {
                name: sum(row.bytes for row in rows)
                for name, rows in self.grouped(lambda row: row.component).items()
            },
            "rows": [asdict(row) for row in self.rows],
        }


Read = Callable[[Path], bytes]


def ledger(paths: Iterable[str | os.PathLike[str]], read: Read = read_file) -> Ledger:
    """Account for files and folders (all files below them). Raises SqueezeError for one unreadable.

    Files of others are taken apart as far as their format allows (`squeeze.outside`). read: gives a
    file's bytes.
    """
    paths = list(paths)
    rows: list[Row] = []
    sizes: dict[str, int] = {}
    notes = left_out(paths)
    for name, path in files_of(paths):
        data = read(path)
        sizes[name] = len(data)
        if data[:4] == container.MAGIC:
            rows += artifact_rows(name, data)
            continue
        from squeeze.outside import registry  # only for a file that needs it: loads numpy

        found = registry.read(name, data)
        rows += [_file_row(name, data)] if found is None else found.rows
        notes += [] if found is None else found.notes
    return Ledger(tuple(rows), sizes, tuple(notes))


def artifact_rows(name: str, data: bytes) -> list[Row]:
    """Rows of one `.sqz` file; they sum to its size."""
    parsed = container.parse(data)
    rows = [
        Row(name, "container", "prologue", container.PROLOGUE_SIZE),
        Row(name, "container", "header", parsed.header_size),
    ]
    for stream in parsed.streams:
        shares = split_bytes(stream.size, stream.counts)
        for member, count, share in zip(stream.members, stream.counts, shares, strict=True):
            tensor = parsed.tensors[member].name
            rows.append(
                Row(
                    name,
                    "weights",
                    stream.kind,
                    share,
                    role_of(tensor),
                    layer_of(tensor),
                    tensor,
                    codecs.name_of(stream.codec_id),
                    count,
                    len(stream.members) > 1,
                )
            )
    return rows


def _file_row(name: str, data: bytes) -> Row:
    suffix = Path(name).suffix
    component = {".py": "code", ".model": "tokenizer", ".vocab": "tokenizer"}.get(suffix, "other")
    if is_paper(name):
        component = "papers"
    return Row(name, component, "file", len(data))


def files_of(paths: Iterable[str | os.PathLike[str]]) -> list[tuple[str, Path]]:
    """(name in the ledger, path) of each file and of every file below each folder."""
    found: list[tuple[str, Path]] = []
    for path in map(Path, paths):
        if path.is_dir():
            inside = sorted(p for p in path.rglob("*") if p.is_file() and not p.is_symlink())
            found += [(str(p.relative_to(path.parent)), p) for p in inside]
        else:
            found.append((path.name, path))
        if len(found) > MAX_FILES:
            raise SqueezeError(f"{path}: too many files", expected=f"≤ {MAX_FILES}")
    if len({name for name, _ in found}) != len(found):
        found = [(str(path), path) for _, path in found]
    return found


def left_out(paths: Iterable[str | os.PathLike[str]]) -> list[str]:
    """A sentence for everything below a folder that is neither a file nor a folder: links, pipes."""
    odd = [
        p
        for path in map(Path, paths)
        if path.is_dir()
        for p in sorted(path.rglob("*"))
        if p.is_symlink() or not (p.is_file() or p.is_dir())
    ]
    return [
        f"{p}: {'a symbolic link, not followed' if p.is_symlink() else 'not a file'}; left out"
        for p in odd
    ]
