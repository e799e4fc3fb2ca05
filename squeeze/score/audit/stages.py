"""Stages of a training run as submission.json states them, in or out of the timer."""

from __future__ import annotations

from dataclasses import dataclass

from squeeze.review.values import number_of

QUIET = ("validation", "evaluation")  # stages that the official timer pauses for
READABLE = ("nothing", "validation")  # by such a stage


@dataclass(frozen=True)
class Stage:
    """One row of a stated clock. inside: the timer runs; updates: weights change."""

    name: str
    seconds: float
    inside: bool
    reads: str
    updates: bool

    @property
    def is_pause(self) -> bool:
        """True for what the official timer pauses for: it reads validation data and learns nothing."""
        return self.name in QUIET and self.reads in READABLE and not self.updates

    @property
    def learns(self) -> bool:
        """True for work on data, or on weights, that belongs inside the timer."""
        return not self.is_pause and (self.updates or self.reads != "nothing")

    def __str__(self) -> str:
        return f"{self.name} ({self.seconds:g} s, reads {self.reads})"


def read_stages(rows: object) -> list[Stage]:
    """Return the stages of a stated clock. Raises ValueError for what is none."""
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise ValueError("clock is not a list of {stage, seconds, inside, reads}")
    stages = []
    for row in rows:
        name, seconds = str(row.get("stage", ""))[:60], number_of(row.get("seconds"))
        if seconds is None or seconds < 0:
            said = str(row.get("seconds"))[:40]
            raise ValueError(f"clock: {name!r} took {said}, not seconds from 0 up")
        reads = row.get("reads", "nothing")
        flags = row.get("inside"), row.get("updates", False)
        if not all(isinstance(flag, bool) for flag in flags) or not isinstance(reads, str):
            raise ValueError(f"clock: {name!r} does not say what it reads, and if inside the timer")
        stages.append(Stage(name, seconds, flags[0] is True, reads[:60], flags[1] is True))
    return stages
