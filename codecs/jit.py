"""numba's `njit`, with machine code kept between runs where this user can write, and never stale.

Left alone, numba raises where it finds no folder to keep machine code in, and keys the code of a
function on that function's file, not on the files of the functions it inlines. Here the folder is
chosen, and is named after the sources of all kernels that may be inlined.

A bundle has no sources beside it: `squeeze bundle` puts numba's own `njit` in the place of this one.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
import tempfile
import threading
import warnings
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numba

from squeeze.errors import Notice

config: Any = numba.config  # its names come from the environment, so types do not know them
HERE = Path(__file__).parent
ROOM = 1 << 20  # bytes a folder must still take: a full disk is not one to keep code on
DECORATING = threading.Lock()


def njit(**options: Any) -> Callable[[Callable[..., Any]], Any]:
    """Return numba's decorator of that name; it also caches, where a folder can be written."""

    def compiled(function: Callable[..., Any]) -> Any:
        if config.DISABLE_JIT:
            return function
        # Numba reads the setting, twice, when a function is decorated; other users of numba keep theirs.
        # Were another thread to put it back in between, code would go to the working folder.
        with DECORATING:
            folder = cache_folder(Path(function.__code__.co_filename).parent)
            theirs, config.CACHE_DIR = config.CACHE_DIR, str(folder or "")
            try:
                return numba.njit(cache=folder is not None, **options)(function)
            finally:
                config.CACHE_DIR = theirs

    return compiled


@cache
def cache_folder(package: Path) -> Path | None:
    """Return the folder for machine code of the kernels in `package`; None when none can be written.

    The user's `NUMBA_CACHE_DIR` comes first, then `__pycache__`, the user's cache folder, and a private
    folder among the temporary files; a `Notice` says when it is the last of these, or none. Machine code
    of former sources is removed.
    """
    group = hashlib.sha256(str(package).encode()).hexdigest()[:16]
    inside = Path("squeeze-kernels", group, _key(package))
    temporary = _private_folder()
    for home in (*_lasting_homes(), *([temporary] if temporary else [])):
        if _can_keep(home / inside):
            _remove_siblings(home / inside)
            if home == temporary:
                _notice(f"compiled kernels are kept in {home}")
            return home / inside
    _notice("kernels are compiled again in every run")
    return None


def _lasting_homes() -> Iterator[Path]:
    """Yield the folders that outlive a restart, best first."""
    if config.CACHE_DIR:
        yield Path(config.CACHE_DIR)
    yield HERE / "__pycache__"
    home = os.path.expanduser("~")
    yield Path(os.environ.get("XDG_CACHE_HOME") or f"{home}/.cache")


def _private_folder() -> Path | None:
    """Return this user's own folder among the temporary files, made if it is missing.

    None where there is none, or where somebody else could have put machine code into it.
    """
    try:
        folder = Path(tempfile.gettempdir()) / f"squeeze-{os.geteuid()}"
        folder.mkdir(mode=0o700, exist_ok=True)
        status = folder.lstat()
    except OSError:
        return None
    mine = stat.S_ISDIR(status.st_mode) and status.st_uid == os.geteuid()
    return folder if mine and not stat.S_IMODE(status.st_mode) & 0o077 else None


def _key(package: Path) -> str:
    """Return a hash of all sources whose kernels those of `package` may inline."""
    own = _hash(tuple(sorted(package.glob("*.py"))))
    return hashlib.sha256(_hash(tuple(sorted(HERE.rglob("*.py")))) + own).hexdigest()[:16]


@cache
def _hash(sources: tuple[Path, ...]) -> bytes:
    """Return a hash of the contents of files."""
    return hashlib.sha256(
        b"".join(hashlib.sha256(s.read_bytes()).digest() for s in sources)
    ).digest()


def _can_keep(folder: Path) -> bool:
    """Return whether `folder`, made if it is missing, takes ROOM bytes."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(bytes(ROOM))
    except OSError:
        return False
    return True


def _remove_siblings(folder: Path) -> None:
    """Remove the machine code of former sources, which lies beside `folder`."""
    for other in folder.parent.iterdir():
        if other != folder:
            shutil.rmtree(other, ignore_errors=True)


@cache
def _notice(text: str) -> None:
    """Tell the user once where machine code goes."""
    warnings.warn(
        f"{text}: neither {HERE / '__pycache__'} nor the user's cache folder can be written "
        "(NUMBA_CACHE_DIR names another folder)",
        Notice,
        stacklevel=2,
    )
