"""Reading and writing whole files, the safe way. A leaf module beside `squeeze.errors`."""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from squeeze.errors import SqueezeError

MAX_FILE = 8 << 30  # bytes; nothing squeeze reads in one piece is larger


def read_file(path: str | os.PathLike[str], max_size: int = MAX_FILE) -> bytes:
    """The bytes of a regular file; raises SqueezeError when it is missing, odd or over max_size."""
    try:
        if not os.path.isfile(path):
            kind = "a folder" if os.path.isdir(path) else "nothing there"
            raise SqueezeError(f"{path}: cannot be read", expected="a file", found=kind)
        size = os.path.getsize(path)
        if size > max_size:
            raise SqueezeError(f"{path}: too large", expected=f"≤ {max_size} bytes", found=size)
        with open(path, "rb") as file:
            return file.read()
    except OSError as error:
        raise SqueezeError(f"{path}: cannot be read: {error.strerror or error}") from None


@contextlib.contextmanager
def atomic_writer(path: str | os.PathLike[str]) -> Iterator[IO[bytes]]:
    """Open a temporary file beside `path` that replaces it only when the block ends without error.

    A reader sees the old file or the new one, never a part; a full disk or a crash leaves the old.
    Two writers to one path do not mix: each has its own temporary file and the last rename wins.
    Raises SqueezeError when the folder is missing, read-only or full.
    """
    target = Path(path)
    temporary = None
    try:
        descriptor, temporary = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
        with os.fdopen(descriptor, "wb") as file:
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


def sha256(data: bytes | memoryview) -> str:
    """Hex SHA-256."""
    return hashlib.sha256(data).hexdigest()


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
