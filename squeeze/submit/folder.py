"""A folder that appears whole or not at all, and replaces another in one step.

It is built beside its target under a name that begins with a dot, written to disk, then renamed. On
Linux an existing folder is exchanged with the new one by the kernel (renameat2(2), RENAME_EXCHANGE): at
every moment the name stands for the old folder or for the new one. Where that call is missing, two
renames do it; a run that ended between them is completed by the next.

Remains of a killed run beside the folder are removed by the next (`squeeze.files.scratch_folder`).
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from squeeze.errors import SqueezeError
from squeeze.files import scratch_folder
from squeeze.ledger.submission import CLAIMS

AT_FDCWD, EXCHANGE = -100, 2
MARK = CLAIMS  # a folder that may be replaced holds it


@contextlib.contextmanager
def built_folder(target: Path, force: bool = False) -> Iterator[Path]:
    """Yield an empty folder to fill; it becomes `target` when the block ends without error.

    force: replace a submission at `target`

    Raises SqueezeError when `target` may not be replaced, or the folder cannot be written; then nothing
    has changed.
    """
    target = Path(os.path.abspath(target))
    try:
        recover(target)
        check_target(target, force)
        # another name than `squeeze.files` gives temporary files: a file beside may be called the same
        with scratch_folder(f".{target.name}.submit-", target.parent) as building:
            yield building
            os.chmod(building, 0o755)
            for path in building.iterdir():
                os.chmod(path, 0o644)
                _sync(path)
            _sync(building)
            check_target(target, force)
            if target.exists():
                _exchange(building, target)
            else:
                os.rename(building, target)
            _sync(target.parent)
    except OSError as error:
        raise SqueezeError(
            f"{target}: cannot be written: {error.strerror or error}",
            fix="Nothing was changed; free space or choose another folder.",
        ) from None


def check_target(target: Path, force: bool) -> None:
    """Raise SqueezeError when `target` exists and must not be replaced."""
    if not os.path.lexists(target):
        return
    if target.is_symlink() or not target.is_dir():
        what = "a symbolic link" if target.is_symlink() else "a file"
        raise SqueezeError(f"{target}: cannot be replaced", expected="a folder", found=what)
    names = os.listdir(target)
    if names and MARK not in names:
        raise SqueezeError(
            f"{target}: there is a folder that is no submission",
            expected=f"nothing, or a folder with {MARK}",
            fix="Choose another folder.",
        )
    if not force:
        raise SqueezeError(f"{target}: exists", fix="Replace it with --force.")


def recover(target: Path) -> None:
    """Finish a replacement in two steps that was cut short: at its second, or its clearing up."""
    old = _aside(target)
    if not old.is_dir() or old.is_symlink():
        return
    if os.path.lexists(target):
        shutil.rmtree(old)
    else:
        os.rename(old, target)


def _exchange(new: Path, old: Path) -> None:
    """Swap two folders; afterwards `new` is the name of the old one."""
    try:
        call = ctypes.CDLL(None, use_errno=True).renameat2
    except (OSError, AttributeError):
        return _in_two_steps(new, old)
    names = os.fsencode(new), os.fsencode(old)
    if call(AT_FDCWD, names[0], AT_FDCWD, names[1], EXCHANGE) == 0:
        return None
    code = ctypes.get_errno()
    if code in (errno.ENOSYS, errno.EINVAL, errno.ENOTSUP, errno.EXDEV):
        return _in_two_steps(new, old)
    raise OSError(code, os.strerror(code))


def _in_two_steps(new: Path, old: Path) -> None:
    aside = _aside(old)
    os.rename(old, aside)
    try:
        os.rename(new, old)
    except OSError:
        os.rename(aside, old)
        raise
    os.rename(aside, new)


def _aside(target: Path) -> Path:
    return target.with_name(f".{target.name}.replaced")


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
