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
        """Count `n` more units of the current stage as done."""

    def note(self, text: str) -> None:
        """Tell the user one sentence that outlives the progress bar."""

    def trial(self, scale: float, size: int) -> None:
        """Show one trial of the search for a byte target: the scale and the bytes of its file."""


SILENT = Reporter()
