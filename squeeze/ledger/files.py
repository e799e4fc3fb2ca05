"""The files a ledger is of: those named, and all below the folders named."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from squeeze.artifact.container import MAGIC
from squeeze.errors import BadConfig, SqueezeError

MAX_FILES = 10_000

Paths = Iterable[str | os.PathLike[str]]
Read = Callable[[Path], bytes]


def each_path(paths: str | os.PathLike[str] | Paths) -> tuple[str | os.PathLike[str], ...]:
    """Return the paths that are given: several, or one that stands for itself.

    Raises BadConfig for what is no path.
    """
    several: tuple[Any, ...]
    if isinstance(paths, str | os.PathLike) or not isinstance(paths, Iterable):
        several = (paths,)
    else:
        several = tuple(paths)
    for path in several:
        if not isinstance(path, str | os.PathLike):
            raise BadConfig("files", expected="a path, or several", found=repr(path)[:40])
    return several


def files_of(paths: Paths) -> list[tuple[str, Path]]:
    """Return (name in the ledger, path) of each file and of every file below each folder.

    A file that is named twice, or lies in a folder that is named, too, is one. Raises SqueezeError for
    more than MAX_FILES, and for an empty path.
    """
    files: list[tuple[str, Path]] = []
    for path in _paths(paths):
        if path.is_dir():
            inside = sorted(p for p in path.rglob("*") if p.is_file() and not p.is_symlink())
            files += [(str(p.relative_to(path.parent)), p) for p in inside]
        else:
            files.append((path.name, path))
        if len(files) > MAX_FILES:
            raise SqueezeError(f"{path}: too many files", expected=f"≤ {MAX_FILES}")
    whole = {os.path.abspath(path): (name, path) for name, path in reversed(files)}
    files = list(whole.values())[::-1]
    if len({name for name, _ in files}) != len(files):
        files = [(str(path), path) for _, path in files]
    return files


def _paths(paths: Paths) -> list[Path]:
    """Return paths, none of them empty: that would stand for the working folder."""
    given = list(paths)
    if "" in given:
        raise SqueezeError("an empty path", expected="a file or folder", fix="This folder is `.`.")
    return [Path(path) for path in given]


def artifacts_of(paths: Paths) -> list[Path]:
    """Return the paths of the `.sqz` artifacts among `files_of(paths)`, told by their magic."""
    artifacts = []
    for _, path in files_of(paths):
        with path.open("rb") as file:
            if file.read(len(MAGIC)) == MAGIC:
                artifacts.append(path)
    return artifacts


def left_out(paths: Paths) -> list[str]:
    """Return a sentence for all below a folder that is neither file nor folder: links, pipes."""
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
