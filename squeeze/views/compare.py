"""Two ledgers side by side: groups of rows that were added, removed, grew and shrank."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from squeeze.ledger.table import Ledger
from squeeze.rows import Row


@dataclass(frozen=True)
class Change:
    """A group of rows before and after, in bytes. what: added, removed, grown, shrunk or same."""

    name: str
    before: int
    after: int

    @property
    def delta(self) -> int:
        return self.after - self.before

    @property
    def what(self) -> str:
        if not self.before or not self.after:
            return "added" if self.after else "removed"
        return "grown" if self.delta > 0 else "shrunk" if self.delta else "same"


GROUPS: dict[str, Callable[[Row], str]] = {
    "component": lambda row: row.component,
    "role": lambda row: f"{row.component} {row.role or row.kind}",
    "tensor": lambda row: _named(row) or f"{row.component} {row.kind}",
    "stream": lambda row: " ".join(filter(None, (row.component, _named(row), row.kind))),
}


def _named(row: Row) -> str:
    return f"{row.role} {row.tensor}" if row.component == "code" and row.tensor else row.tensor


def compare(before: Ledger, after: Ledger, by: str = "role") -> list[Change]:
    """Return the changes by group, the largest first; they sum to the difference of the totals."""
    key = GROUPS[by]
    sizes: dict[str, list[int]] = {}
    for side, ledger in enumerate((before, after)):
        for row in ledger.rows:
            sizes.setdefault(key(row), [0, 0])[side] += row.bytes
    changes = [Change(name, old, new) for name, (old, new) in sizes.items()]
    return sorted(changes, key=lambda change: (-abs(change.delta), change.name))


def as_json(changes: list[Change], before: Ledger, after: Ledger) -> dict[str, Any]:
    """Return a plain dictionary for `--json`."""
    return {
        "before": before.total,
        "after": after.total,
        "delta": after.total - before.total,
        "changes": [
            {"name": c.name, "before": c.before, "after": c.after, "delta": c.delta, "what": c.what}
            for c in changes
        ],
    }
