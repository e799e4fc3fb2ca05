"""The source inside a script that unpacks itself, as `squeeze budget` reads it: never run."""

from __future__ import annotations

import ast
from pathlib import Path

from squeeze.outside.script import read
from squeeze.outside.source import Source

LAYERS = 4  # a script inside a script
WRAPPING = (ast.Import, ast.ImportFrom, ast.Assign, ast.AugAssign, ast.Expr)


def unpacked(path: Path) -> str | None:
    """Return the source that a self-extracting script runs; None for any other file.

    Raises CorruptData if its payload does not decode.
    """
    try:
        data = path.read_bytes()
    except OSError:
        return None
    code = None
    for _ in range(LAYERS):
        source = Source(data)
        script = read(source, path.name)
        if script is None or script.code is None:
            break
        # an archive of ours is no Python, and holds nothing but the program
        if source.tree is not None and not all(isinstance(s, WRAPPING) for s in source.tree.body):
            break
        data = code = script.code
    return None if code is None else code.decode()
