"""Paths that a command may write: regular files and new ones, none of them an input."""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Iterable
from pathlib import Path

from squeeze.errors import SqueezeError

UNFINISHED = ".unfinished"  # ends the names of temporary files and folders
FILE_KINDS = {
    stat.S_IFREG: "a file",
    stat.S_IFDIR: "a folder",
    stat.S_IFLNK: "a symbolic link",
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}
AnyPath = str | os.PathLike[str]


def kind_of(mode: int) -> str:
    """Return what a file of this mode is, in words."""
    return FILE_KINDS.get(stat.S_IFMT(mode), "a file of an unknown kind")


def output_beside(path: AnyPath, suffix: str) -> Path:
    """Return `path` with another suffix: where a command writes that is told no output.

    Raises SqueezeError for a path without a name, such as the root of the file system.
    """
    try:
        return Path(path).with_suffix(suffix)
    except ValueError:
        raise SqueezeError(f"{path}: cannot be read", expected="a file", found="no name") from None


def cache_beside(artifact: Path) -> Path:
    """Return the folder in which a pack keeps its stages, its plan and what it was asked for."""
    return artifact.with_name(artifact.name + ".cache")


def check_outputs(outputs: Iterable[AnyPath | None], inputs: Iterable[AnyPath | None] = ()) -> None:
    """Refuse outputs that cannot be written, or would harm, before hours go into their contents.

    Each must be a regular file or new, in a folder that takes new files, and neither the same as an
    input nor as another output, be it by a link. None stands for an option that is not used. Raises
    SqueezeError.
    """
    taken = [Path(path) for path in inputs if path is not None]
    for path in (Path(path) for path in outputs if path is not None):
        if str(path) == "-":
            raise SqueezeError(
                "-: cannot be written",
                expected="a path",
                fix="Standard output takes no files; ./- is a file of that name.",
            )
        check_replaceable(path)
        for other in taken:
            if _is_same(path, other):
                raise SqueezeError(
                    f"{path}: cannot be written",
                    expected="a path that this command does not use yet",
                    found=f"the same file as {other}",
                    fix="Choose another path.",
                )
        _check_folder_takes(path)
        taken.append(path)


def check_output_folder(path: AnyPath | None) -> None:
    """Raise SqueezeError when `path` is there and no folder. None stands for an unused option."""
    if path is not None and os.path.lexists(path) and not os.path.isdir(path):
        raise SqueezeError(
            f"{path}: cannot be made",
            expected="a folder, or nothing there",
            found=kind_of(os.lstat(path).st_mode),
            fix="Choose another path.",
        )


def check_outside(
    path: AnyPath | None, folders: Iterable[AnyPath], own: bytes | None = None
) -> None:
    """Raise SqueezeError when `path` lies in a folder that the command reads, be it by a link.

    own: beginning of what the command writes; where `path` begins so, or is not there, it may lie
        anywhere. None: it may not, there or not

    None stands for an unused option.
    """
    if path is None or (own is not None and _begins(path, own)):
        return
    target = Path(os.path.realpath(path))
    for folder in folders:
        if os.path.isdir(folder) and target.is_relative_to(os.path.realpath(folder)):
            raise SqueezeError(
                f"{path}: cannot be written",
                expected=f"a path outside of {folder}",
                found="a path in a folder whose files this command reads",
                fix="Choose another path.",
            )


def _begins(path: AnyPath, own: bytes) -> bool:
    """Return whether a file begins with these bytes, or is not there; the writer meets what is odd."""
    if not os.path.isfile(path):
        return True
    try:
        with open(path, "rb") as file:
            return file.read(len(own)) == own
    except OSError:
        return False


def check_replaceable(path: AnyPath) -> None:
    """Raise SqueezeError when `path` is there and no regular file, itself or at the end of its links.

    A link to a file, or to nothing, is replaced by what is written, and what it leads to is left alone.
    """
    try:
        if os.path.islink(path) and os.readlink(path).startswith("/proc/"):
            kind = "a link to a stream of this process"  # as /dev/stdout is
        else:
            kind = kind_of(os.stat(path).st_mode)
    except OSError:
        return  # nothing there, or the writer says what is wrong
    if kind != FILE_KINDS[stat.S_IFREG]:
        raise SqueezeError(
            f"{path}: cannot be written",
            expected="a regular file, or nothing there",
            found=kind,
            fix="Choose another path.",
        )


def _is_same(first: Path, second: Path) -> bool:
    """Return whether two paths name one file, or would once it is there."""
    try:
        return os.path.samefile(first, second)
    except OSError:
        return os.path.realpath(first) == os.path.realpath(second)


def _check_folder_takes(path: Path) -> None:
    """Raise SqueezeError when the folder of `path` is missing or takes no new file."""
    if not path.parent.is_dir():
        raise SqueezeError(f"{path}: cannot be written", found="no such folder", fix="Create it.")
    try:
        descriptor, trial = tempfile.mkstemp(
            dir=path.parent, prefix=f".{path.name}.", suffix=UNFINISHED
        )
        os.close(descriptor)
        os.unlink(trial)
    except OSError as error:
        raise SqueezeError(
            f"{path}: cannot be written: {error.strerror or error}",
            fix="Choose another folder.",
        ) from None
