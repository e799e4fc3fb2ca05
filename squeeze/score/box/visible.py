"""Folders of the machine that a box shows: the interpreter's, its packages', the system's libraries."""

from __future__ import annotations

import os
import site
import sys
from collections.abc import Sequence
from pathlib import Path

SYSTEM = ["/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/nix"]


def visible_paths(extra: Sequence[Path] = ()) -> list[str]:
    """Return the folders that exist in a box: the interpreter's and the system's, none in another."""
    paths = [*SYSTEM, sys.prefix, sys.base_prefix, sys.exec_prefix, *site.getsitepackages()]
    paths += [str(path) for path in extra]
    paths += [os.path.realpath(path) for path in paths if not os.path.islink(path)]
    folders = sorted({path for path in paths if os.path.lexists(path) and path != "/"})
    return [p for p in folders if not any(p.startswith(q + "/") for q in folders)]


def open_to_all(folder: str) -> bool:
    """Return whether any user may enter the folder."""
    path = Path(folder).resolve()
    return all(parent.stat().st_mode & 0o005 == 0o005 for parent in [path, *path.parents])
