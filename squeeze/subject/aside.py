"""Prints of a stranger's code on standard error: standard output is for the command's own result."""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Iterator
from typing import TextIO

_LOCK = threading.Lock()
_OUTPUTS: list[TextIO] = []  # standard output as each thread inside met it


@contextlib.contextmanager
def printing_aside() -> Iterator[None]:
    """Print on standard error inside.

    Standard output is one for all threads: the first that enters replaces it, the last that leaves
    restores it.
    """
    with _LOCK:
        _OUTPUTS.append(sys.stdout)
        sys.stdout = sys.stderr
    try:
        yield
    finally:
        with _LOCK:
            first = _OUTPUTS[0]
            _OUTPUTS.pop()
            if not _OUTPUTS:
                sys.stdout = first
