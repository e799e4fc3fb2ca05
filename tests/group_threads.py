"""Threads of a process group that ended."""

from __future__ import annotations

import time
from contextlib import suppress
from pathlib import Path


def threads_left() -> list[str]:
    """Return the names of this process's threads once none is gloo's, or after ten seconds.

    The kernel lists a thread for a moment after it was joined, which a loaded machine can make long.
    """
    deadline = time.monotonic() + 10
    while True:
        names = []
        for task in Path("/proc/self/task").glob("*"):
            with suppress(OSError):  # ended between the two
                names.append((task / "comm").read_text())
        if time.monotonic() > deadline or not any("gloo" in name for name in names):
            return names
        time.sleep(0.05)
