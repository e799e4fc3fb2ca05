"""The source files of squeeze itself, as installed: other code, other results."""

from __future__ import annotations

import hashlib
import importlib
from pathlib import Path

PACKAGES = ("squeeze", "squeeze.codecs", "squeeze.calib", "squeeze.train")


def code_sha256() -> str:
    """Return the hex SHA-256 over the names and contents of all source files of squeeze."""
    roots = {name: Path(str(importlib.import_module(name).__file__)).parent for name in PACKAGES}
    files = {
        f"{name}/{file.relative_to(root).as_posix()}": file
        for name, root in roots.items()
        for file in root.rglob("*.py")
    }
    state = hashlib.sha256()
    for name in sorted(files):
        state.update(f"{name}\0".encode() + hashlib.sha256(files[name].read_bytes()).digest())
    return state.hexdigest()
