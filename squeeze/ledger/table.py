"""The ledger itself: rows, the sizes of the files they must sum to, and what follows from both."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from squeeze.rows import Row


@dataclass(frozen=True)
class Ledger:
    """Rows, and the sizes of files in bytes that they sum to.

    files: bytes by name
    notes: sentences on how files were read
    has_model: False for a folder in which nothing can be a model, so no limit is held or broken
    models: names of the files that hold weights, or may hold them, being of no known format
    """

    rows: tuple[Row, ...]
    files: dict[str, int]
    notes: tuple[str, ...] = ()
    has_model: bool = True
    models: tuple[str, ...] = ()

    @property
    def total(self) -> int:
        """Bytes of all files on disk."""
        return sum(self.files.values())

    @property
    def papers(self) -> dict[str, int]:
        """Bytes by name of the files that are about the others: called so, and text or pictures."""
        names = dict.fromkeys(row.file for row in self.rows if row.component == "papers")
        return {name: self.files[name] for name in names}

    @property
    def components(self) -> dict[str, int]:
        """Bytes by component: weights, container, code, tokenizer, papers or other."""
        return {
            name: sum(row.bytes for row in rows)
            for name, rows in self.grouped(lambda row: row.component).items()
        }

    @property
    def unattributed(self) -> int:
        """Bytes that no row claims; 0 unless there is a defect."""
        return self.total - sum(row.bytes for row in self.rows)

    @property
    def weights(self) -> int:
        """Number of weights stored, whatever their precision."""
        return sum(row.elements for row in self.rows if row.kind == "codes" or "raw." in row.kind)

    def bits_per_weight(self) -> float:
        """Return the bits of weight streams (codes, steps, raw values) per weight."""
        stored = sum(row.bytes for row in self.rows if row.component == "weights")
        return 8 * stored / self.weights if self.weights else 0.0

    def grouped(self, key: Callable[[Row], Any]) -> dict[Any, list[Row]]:
        """Return the rows by key, in order of first appearance."""
        groups: dict[Any, list[Row]] = {}
        for row in self.rows:
            groups.setdefault(key(row), []).append(row)
        return groups

    def __str__(self) -> str:
        parts = ", ".join(f"{name} {size:,}" for name, size in self.components.items())
        return f"{self.total:,} bytes: {parts}"

    def as_json(self, limit: int) -> dict[str, Any]:
        """Return a plain dictionary for `--json`."""
        return {
            "total": self.total,
            "limit": limit,
            "unused": limit - self.total if self.has_model else None,
            "has_model": self.has_model,
            "unattributed": self.unattributed,
            "weights": self.weights,
            "bits_per_weight": self.bits_per_weight(),
            "files": self.files,
            "notes": list(self.notes),
            "components": self.components,
            "rows": [asdict(row) for row in self.rows],
        }
