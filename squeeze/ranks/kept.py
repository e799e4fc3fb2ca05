"""Files that an earlier run kept, read by every rank of a run."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from squeeze.errors import CorruptData
from squeeze.ranks.group import Ranks

T = TypeVar("T")


def kept_by_all(load: Callable[[Path, str], T], path: Path, key: str) -> T | None:
    """Return the contents of a kept file when every rank can read it, else None; every rank calls it.

    load: raises CorruptData for a file that is not there, damaged or of another key
    """
    contents = None
    with contextlib.suppress(CorruptData):
        contents = load(path, key)
    return contents if Ranks.current().on_all(contents is not None) else None
