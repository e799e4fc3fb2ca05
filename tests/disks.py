"""A small disk that takes no further byte, mounted for one test."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

SIZE = 64 << 10  # bytes
KINDS = ("full", "read-only")
FILLER = "filler"  # the file that fills it


@contextmanager
def refusing_disk(place: Path, kind: str, files: dict[str, bytes]) -> Iterator[Path]:
    """Mount a disk at `place` that holds `files` and refuses more; skip where that is not allowed."""
    place.mkdir()
    # Python tries its folder for temporary files once, and a full disk is none
    tempfile.gettempdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs", str(place)]
    try:
        done = subprocess.run(mount, capture_output=True, text=True)
    except FileNotFoundError:
        pytest.skip("no mount command")
    if done.returncode:
        pytest.skip(f"a disk cannot be mounted here: {done.stderr.strip()[:80]}")
    try:
        for name, data in files.items():
            path = place / name
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(data)
        if kind == "full":
            with pytest.raises(OSError, match="No space"), (place / FILLER).open("wb", 0) as file:
                while True:
                    file.write(bytes(4096))
        else:
            subprocess.run(["mount", "-o", "remount,ro", str(place)], check=True)
        yield place
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)
