"""A gate on growth for continuous integration: totals by commit in one small JSON file."""

from __future__ import annotations

import json
from pathlib import Path

from squeeze.errors import SqueezeError
from squeeze.files import read_file, write_atomic
from squeeze.views.compare import check_growth

MAX_SIZE = 1 << 24  # bytes of the file


def gate(base: Path, total: int, allowed: str | None, commit: str | None) -> None:
    """Compare a total with the last one stored, then store it under `commit` if that is given.

    allowed: growth, as `1%` or bytes; None: only store. A commit that is stored already is replaced
    where it stands. Raises OverBudget beyond it (nothing is stored then), SqueezeError for a file that
    is not totals by commit.
    """
    totals = load(base) if base.exists() or not commit else {}
    others = [size for key, size in totals.items() if key != commit]
    if allowed is not None and others:
        check_growth(others[-1], total, allowed)
    if commit:
        write_atomic(base, json.dumps({**totals, commit: total}, indent=1).encode() + b"\n")


def load(base: Path) -> dict[str, int]:
    """Totals in bytes by commit, oldest first."""
    try:
        totals = json.loads(read_file(base, MAX_SIZE))
        if not isinstance(totals, dict):
            raise ValueError("not an object")
        if not all(isinstance(size, int) and size >= 0 for size in totals.values()):
            raise ValueError("not all values are bytes")
    except (ValueError, RecursionError) as error:
        raise SqueezeError(
            f"{base}: not totals by commit", expected='{"commit": bytes, …}', found=str(error)[:80]
        ) from None
    return totals
