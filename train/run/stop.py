"""Requests to stop: SIGTERM and Ctrl-C end a run after its current step, with its state saved."""

from __future__ import annotations

import os
import signal
import sys
import threading
from types import FrameType

from squeeze.errors import SqueezeError

PATIENCE = 20.0  # seconds a step may still take after SIGTERM; schedulers kill after 30


class Stopped(SqueezeError):
    """Error of a run that was asked to stop before its end."""


class StopSignals:
    """Handlers that turn the first SIGTERM or SIGINT into a request; a second signal acts as usual.

    name: of the signal that came, "" before

    A step that waits for a process which no longer exists would never end: when the handlers are still
    in use PATIENCE seconds after a signal, the process prints a message and exits. Outside the main
    thread nothing is handled.
    """

    def __init__(self) -> None:
        self.name = ""  # of the signal that came
        self._old: dict[int, object] = {}
        self._timer: threading.Timer | None = None

    def __enter__(self) -> StopSignals:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGINT):
                self._old[number] = signal.signal(number, self._on_signal)
        return self

    def __exit__(self, *error: object) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._restore()

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self.name = signal.Signals(number).name
        self._restore()
        self._timer = threading.Timer(PATIENCE, _give_up, (self.name,))
        self._timer.daemon = True
        self._timer.start()

    def _restore(self) -> None:
        for number, handler in self._old.items():
            signal.signal(number, handler)  # type: ignore[arg-type]
        self._old.clear()


def _give_up(name: str) -> None:
    print(
        f"squeeze: {name}: the step did not end within {PATIENCE:g} s, another process of the run "
        "may be lost. The last saved state is whole; continue with --resume.",
        file=sys.stderr,
        flush=True,
    )
    os._exit(1)
