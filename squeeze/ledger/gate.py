"""Limits on bytes: of a file or folder, and of its growth from commit to commit."""

from __future__ import annotations

import json
import os
from pathlib import Path

from squeeze.errors import BadConfig, NoModel, OverBudget, SqueezeError
from squeeze.files import read_json, write_atomic
from squeeze.ledger.attribute import attribute_paths
from squeeze.ledger.files import Paths, each_path
from squeeze.ledger.submission import shipped_bytes
from squeeze.ledger.table import Ledger

MAX_SIZE = 1 << 24  # bytes of a file of totals
MOST_GROWTH = 1e12  # per cent, or bytes
NO_MODEL = "no model here; nothing can be said of the limit"
SMALLER = "Use fewer bits (--quant), or smaller code."


def check_limit(total: int, limit: int, fix: str = SMALLER) -> None:
    """Raise OverBudget, which says by how much, when `total` bytes are more than `limit`.

    fix: advice that ends the message.
    """
    if total > limit:
        raise OverBudget(
            f"over the limit by {total - limit:,} bytes",
            expected=f"≤ {limit:,} bytes",
            found=f"{total:,}",
            fix=fix,
        )


def whole_bytes(limit: object) -> int:
    """Return a limit that Python code gives, as an integer. Raises BadConfig for what is none.

    >>> whole_bytes(16e6)
    16000000
    """
    try:
        number = int(limit)  # type: ignore[call-overload]  # what has no such form raises
        if number == limit and number > 0 and not isinstance(limit, bool):
            return int(number)
    except (TypeError, ValueError, OverflowError):
        pass
    raise BadConfig("limit", expected="a whole number of bytes above 0", found=repr(limit)[:40])


def check_model(ledger: Ledger, paths: Paths) -> None:
    """Raise NoModel when the ledger is of folders without a model."""
    if not ledger.has_model:
        shown = ", ".join(str(path) for path in paths)
        raise NoModel(
            f"{shown}: {NO_MODEL}", fix="`squeeze review FOLDER` reads what its logs say."
        )


def attribute_within(paths: str | os.PathLike[str] | Paths, limit: int | None) -> Ledger:
    """Return the ledger of files and folders.

    Raises OverBudget when what ships is above the limit, NoModel when there is a limit and no model,
    BadConfig for a limit that is no number of bytes, SqueezeError for no paths.
    """
    every = each_path(paths)
    if not every:
        raise SqueezeError("no paths", expected="files or folders to account for")
    most = None if limit is None else whole_bytes(limit)
    ledger = attribute_paths(every)
    if most is not None:
        check_limit(shipped_bytes(ledger), most)
        check_model(ledger, every)
    return ledger


def check_growth(before: int, after: int, allowed: str) -> None:
    """Raise OverBudget when `after` bytes exceed `before` by more than allowed (see `growth`)."""
    room = growth(before, allowed)
    if after > before + room:
        raise OverBudget(
            f"grew by {after - before:,} bytes",
            expected=f"≤ {room:,} bytes more than {before:,} ({allowed})",
            found=f"{after:,}",
        )


def growth(before: int, allowed: str) -> int:
    """Return the bytes that `1%` of `before`, or `4096`, allow. Raises SqueezeError otherwise."""
    try:
        value = float(allowed.removesuffix("%"))
        if not 0 <= value <= MOST_GROWTH:
            raise ValueError
    except ValueError:
        raise SqueezeError("growth", expected="such as 1% or 4096", found=allowed) from None
    return int(before * value / 100) if allowed.endswith("%") else int(value)


def gate(base: Path, total: int, allowed: str | None, commit: str | None) -> None:
    """Compare a total with the last one stored, then store it under `commit` if that is given.

    base: one small JSON file, totals in bytes by commit. allowed: growth, as `1%` or bytes; None:
    only store. A commit that is stored already is replaced where it stands. Raises OverBudget beyond
    the growth allowed (nothing is stored then), SqueezeError for a file that is not totals by commit.
    """
    totals = load(base) if base.exists() or not commit else {}
    others = [size for key, size in totals.items() if key != commit]
    if allowed is not None and others:
        check_growth(others[-1], total, allowed)
    if commit:
        write_atomic(base, json.dumps({**totals, commit: total}, indent=1).encode() + b"\n")


def load(base: Path) -> dict[str, int]:
    """Return totals in bytes by commit, oldest first. Raises SqueezeError for anything else."""
    try:
        totals = read_json(base, MAX_SIZE)
        if not isinstance(totals, dict):
            raise ValueError("not an object")
        if not all(isinstance(size, int) and size >= 0 for size in totals.values()):
            raise ValueError("not all values are bytes")
    except ValueError as error:
        raise SqueezeError(
            f"{base}: not totals by commit", expected='{"commit": bytes, …}', found=str(error)[:80]
        ) from None
    return totals
