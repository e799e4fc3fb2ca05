"""Contexts that all threads share."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator


class Joined:
    """A context of all threads: the first that enters opens it, the last that leaves closes it.

    opened: the context, made anew for each time that it is opened
    """

    def __init__(self, opened: Callable[[], contextlib.AbstractContextManager[object]]) -> None:
        self.opened, self.inside = opened, 0
        self.closing, self.lock = contextlib.ExitStack(), threading.Lock()

    @contextlib.contextmanager
    def __call__(self) -> Iterator[None]:
        """Be inside, with all others that are."""
        with self.lock:
            if not self.inside:
                self.closing.enter_context(self.opened())
            self.inside += 1
        try:
            yield
        finally:
            with self.lock:
                self.inside -= 1
                if not self.inside:
                    self.closing.close()
