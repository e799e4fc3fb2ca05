"""Progress of long work: one object that travels down the calls.

The default says nothing. The command line passes one that draws bars, tests one that collects.

>>> seen = []
>>> class Printing(Reporter):
...     def advance(self, n: float = 1) -> None:
...         seen.append(n)
>>> with Printing().stage("Hessians", total=2) as stage:
...     stage.advance()
...     stage.advance()
>>> seen
[1, 1]
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


class Reporter:
    """Receives the progress of a stage and of the stages inside it; this one drops everything."""

    @contextmanager
    def stage(self, name: str, total: float | None = None, unit: str = "") -> Iterator[Reporter]:
        """Open a stage of `total` units (None: unknown), and yield the reporter of that stage.

        unit: plural noun of what is counted ("tokens", "matrices").
        """
        yield self

    def advance(self, n: float = 1) -> None:
        """Count `n` more units of the current stage as done; several threads may call at a time."""

    def note(self, text: str) -> None:
        """Tell the user one sentence that outlives the progress bar."""

    def trial(self, scale: float, size: int) -> None:
        """Show one trial of the search for a byte target: the scale and the bytes of its file."""


SILENT = Reporter()


class NoteKeeper(Reporter):
    """A reporter that keeps every note, those of its stages too, and passes everything on.

    notes: sentences kept so far, in order
    """

    def __init__(self, onward: Reporter = SILENT, notes: list[str] | None = None) -> None:
        self.notes: list[str] = [] if notes is None else notes
        self._onward = onward

    @contextmanager
    def stage(self, name: str, total: float | None = None, unit: str = "") -> Iterator[Reporter]:
        """Open the stage, whose notes are kept here as well."""
        with self._onward.stage(name, total, unit) as stage:
            yield NoteKeeper(stage, self.notes)

    def advance(self, n: float = 1) -> None:
        """Pass the count on."""
        self._onward.advance(n)

    def note(self, text: str) -> None:
        """Keep a note, and pass it on."""
        self.notes.append(text)
        self._onward.note(text)

    def trial(self, scale: float, size: int) -> None:
        """Pass the trial on."""
        self._onward.trial(scale, size)
