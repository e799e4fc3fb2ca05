"""Files that appear whole or not at all, temporary folders, and locks."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import shutil
import stat
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO

from squeeze.errors import SqueezeError
from squeeze.files.outputs import UNFINISHED, check_replaceable


@contextlib.contextmanager
def atomic_writer(path: str | os.PathLike[str]) -> Iterator[IO[bytes]]:
    """Open a temporary file beside `path` that replaces it only when the block ends without error.

    A reader sees the old file or the new one, never a part; a full disk or a crash leaves the old.
    Two writers to one path do not mix: each has its own temporary file and the last rename wins. What
    a killed writer left beside `path` is removed. Raises SqueezeError when the folder is missing,
    read-only or full, or `path` is no regular file.
    """
    target = Path(path)
    temporary = None
    check_replaceable(target)
    try:
        _sweep(target.parent, f".{target.name}.")
        temporary, file = _temporary(target)
        with file:
            yield file
            file.flush()
            os.fsync(file.fileno())
            os.chmod(temporary, 0o666 & ~_umask())
            os.replace(temporary, target)
            temporary = None
    except OSError as error:
        raise SqueezeError(
            f"{target}: cannot be written: {error.strerror or error}",
            fix="Nothing was changed; free space or choose another folder.",
        ) from None
    finally:
        if temporary is not None:
            with contextlib.suppress(OSError):
                os.unlink(temporary)


def write_atomic(path: str | os.PathLike[str], data: bytes) -> None:
    """Write a whole file through `atomic_writer`."""
    with atomic_writer(path) as file:
        file.write(data)


def make_folder(path: str | os.PathLike[str]) -> None:
    """Make a folder and its parents, unless they are there; raises SqueezeError when it cannot be."""
    try:
        Path(path).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SqueezeError(f"{path}: cannot be made: {error.strerror or error}") from None


def remove_files(paths: Iterable[str | os.PathLike[str]]) -> None:
    """Remove files, some of which may be gone, and no folder. Raises SqueezeError where that fails."""
    for path in paths:
        try:
            if os.path.islink(path) or not os.path.isdir(path):
                os.unlink(path)
        except FileNotFoundError:
            pass
        except OSError as error:
            raise SqueezeError(f"{path}: cannot be removed: {error.strerror or error}") from None


@contextlib.contextmanager
def held(path: str | os.PathLike[str], work: str) -> Iterator[None]:
    """Hold a file, made if it is missing, for one process; freed with the process, however it ends.

    Raises SqueezeError when another process holds it (`work`: what that does), or it cannot be written
    or is no regular file.
    """
    check_replaceable(path)  # opening a pipe would wait for its reader
    try:
        file = open(path, "ab")  # noqa: SIM115  closed below
    except OSError as error:
        raise SqueezeError(f"{path}: cannot be written: {error.strerror or error}") from None
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise SqueezeError(
                f"{path}: another {work} is at work here",
                fix="Wait for it, or give this one another output path.",
            ) from None
        except OSError:
            pass  # some file systems have no locks
        yield


@contextlib.contextmanager
def scratch_folder(prefix: str, parent: str | os.PathLike[str] | None = None) -> Iterator[Path]:
    """A folder in `parent` (None: the system's place) for the length of the block.

    Those that killed processes left there under this prefix are removed. Raises SqueezeError when it
    cannot be made.
    """
    descriptor = None
    try:
        place = Path(parent or tempfile.gettempdir())
        _sweep(place, prefix)
        while descriptor is None:
            folder = tempfile.mkdtemp(dir=place, prefix=prefix, suffix=UNFINISHED)
            descriptor = _claimed(folder, os.O_RDONLY)
    except OSError as error:
        raise SqueezeError(
            f"{parent or 'the place for temporary files'}: cannot be written: "
            f"{error.strerror or error}",
            fix="Free space there, or set TMPDIR to another folder.",
        ) from None
    try:
        yield Path(folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(descriptor)


def _temporary(target: Path) -> tuple[str, IO[bytes]]:
    """A new file beside target, locked as long as it is open: a sign that its writer lives."""
    while True:
        created, name = tempfile.mkstemp(
            dir=target.parent, prefix=f".{target.name}.", suffix=UNFINISHED
        )
        os.close(created)
        descriptor = _claimed(name, os.O_WRONLY)
        if descriptor is not None:
            return name, os.fdopen(descriptor, "wb")


def _claimed(path: str, flags: int) -> int | None:
    """Open and lock something just made; None when a sweep took it for abandoned in between."""
    try:
        descriptor = os.open(path, flags)
    except FileNotFoundError:
        return None
    with contextlib.suppress(OSError):  # some file systems have no locks: then nothing is swept
        fcntl.flock(descriptor, fcntl.LOCK_EX)
    with contextlib.suppress(FileNotFoundError):
        if os.path.samestat(os.fstat(descriptor), os.stat(path)):
            return descriptor
    os.close(descriptor)
    return None


def _sweep(folder: Path, prefix: str) -> None:
    """Remove temporary files and folders of this prefix whose process is gone: nobody locks them."""
    names = re.compile(re.escape(prefix) + "[a-z0-9_]{8}" + re.escape(UNFINISHED))
    for name in os.listdir(folder):
        if not names.fullmatch(name):
            continue
        path = folder / name
        with contextlib.suppress(OSError):
            descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if stat.S_ISDIR(os.fstat(descriptor).st_mode):
                    shutil.rmtree(path)
                else:
                    os.unlink(path)
            finally:
                os.close(descriptor)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
