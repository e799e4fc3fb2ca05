"""Progress on a terminal: a rich bar for each open stage, notes kept until the command prints them."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from squeeze.cli.terminal.printing import print_line
from squeeze.errors import printable
from squeeze.reporter import Reporter
from squeeze.views.console import PlainConsole


class Bars(Reporter):
    """A reporter that draws on stderr while it is entered.

    quiet: draw and print nothing
    limit: bytes that a trial has room for, shown beside its size; 0: none is known

    `notes` holds every note in order, whether drawn or not. Where stderr is no terminal no bar is
    drawn, so that logs stay readable.
    """

    def __init__(self, quiet: bool = False, limit: int = 0) -> None:
        self.notes: list[str] = []
        self._quiet, self._limit = quiet, limit
        self._progress: Progress | None = None
        self._lines: set[str] = set()  # of trials

    def __enter__(self) -> Bars:
        if not self._quiet and sys.stderr.isatty():
            self._progress = _drawn()
            self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._progress is not None:
            self._progress.stop()
            self._progress = None

    @contextmanager
    def stage(self, name: str, total: float | None = None, unit: str = "") -> Iterator[Reporter]:
        """Draw a bar until the stage ends."""
        if self._progress is None:
            yield self
            return
        task = self._progress.add_task(printable(name), total=total, unit=unit)
        try:
            yield _Bar(self, self._progress, task)
        finally:
            self._progress.remove_task(task)

    def note(self, text: str) -> None:
        """Keep a note."""
        self.notes.append(text)

    def trial(self, scale: float, size: int) -> None:
        """Print a trial of the search on a line of its own, which stays.

        Trials that one line describes, such as those to either side of a jump of the size, have one.
        """
        room = f" of {self._limit:,}" if self._limit else ""
        line = f"scale {scale:.3g}: {size:,} bytes{room}"
        if not self._quiet and line not in self._lines:
            print_line(line, err=True)
        self._lines.add(line)


class _Bar(Reporter):
    """The bar of one stage; everything but its count goes to the bars it belongs to."""

    def __init__(self, bars: Bars, progress: Progress, task: TaskID) -> None:
        self._bars, self._progress, self._task = bars, progress, task

    def stage(self, name: str, total: float | None = None, unit: str = ""):  # type: ignore[no-untyped-def]
        """Draw a bar below this one."""
        return self._bars.stage(name, total, unit)

    def advance(self, n: float = 1) -> None:
        """Move the bar."""
        self._progress.advance(self._task, n)

    def note(self, text: str) -> None:
        """Keep a note."""
        self._bars.note(text)

    def trial(self, scale: float, size: int) -> None:
        """Print a trial above the bars, and count it."""
        self._progress.update(self._task, unit="trials")
        self._progress.advance(self._task)
        self._bars.trial(scale, size)


class Count(ProgressColumn):
    """Column with the count of a stage, its total where that is known, and its rate."""

    def render(self, task: Task) -> Text:
        """Return the count of a stage; nothing before anything is counted and no total is known."""
        return Text(
            counted(task.completed, task.total, str(task.fields["unit"]), task.elapsed or 0)
        )


def counted(done: float, total: float | None, unit: str, seconds: float) -> str:
    """Return a count in words.

    >>> counted(512, 2048, "tokens", 2.0), counted(3, None, "trials", 0.5), counted(0, None, "", 9.0)
    ('512/2,048 tokens, 256 a second', '3 trials', '')
    """
    if not done and total is None:
        return ""
    share = f"{done:,.0f}" if total is None else f"{done:,.0f}/{total:,.0f}"
    rate = f", {done / seconds:,.0f} a second" if done >= 10 * seconds > 0 else ""
    return f"{share} {unit}".rstrip() + rate


def _drawn() -> Progress:
    """Return the columns: name, bar, count with its unit and rate, time taken and left."""
    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        Count(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=PlainConsole(stderr=True),
        transient=True,
    )
