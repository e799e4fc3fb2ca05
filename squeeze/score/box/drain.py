"""Pipes that a thread reads to their end, so that the process that writes never waits."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from typing import IO


class Drain:
    """Reads a pipe to its end in a thread, keeping the first or the last `size` bytes."""

    def __init__(self, pipe: IO[bytes], size: int, keep_end: bool) -> None:
        self._kept = bytearray()
        self._thread = threading.Thread(
            target=self._run, args=(pipe, size, keep_end), daemon=True, name="audit-drain"
        )
        self._thread.start()

    def _run(self, pipe: IO[bytes], size: int, keep_end: bool) -> None:
        with pipe:
            for chunk in _chunks(pipe):
                if keep_end:
                    self._kept[:] = (self._kept + chunk)[-size:]
                elif len(self._kept) < size:
                    self._kept += chunk[: size - len(self._kept)]

    def text(self) -> str:
        """Return what is kept, as text."""
        return bytes(self._kept).decode("utf-8", "replace")

    def join(self) -> None:
        """Wait at most two seconds for the rest: a daemon may keep the pipe open for ever."""
        self._thread.join(timeout=2.0)


def _chunks(pipe: IO[bytes]) -> Iterator[bytes]:
    descriptor = pipe.fileno()
    while True:
        try:
            chunk = os.read(descriptor, 1 << 16)
        except OSError:
            return
        if not chunk:
            return
        yield chunk
