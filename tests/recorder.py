"""A reporter that records what long work reports."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from squeeze.reporter import Reporter


@dataclass
class Stage:
    """A stage that was opened: its name, its total in `unit`, and every count it was advanced by."""

    name: str
    total: float | None
    unit: str
    counts: list[float] = field(default_factory=list)


@dataclass
class Recorder(Reporter):
    """Stages in the order they were opened, and every trial and note."""

    stages: list[Stage] = field(default_factory=list)
    trials: list[tuple[float, int]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    opened: list[Stage] = field(default_factory=list, repr=False)

    @property
    def names(self) -> list[str]:
        """Names of the stages."""
        return [stage.name for stage in self.stages]

    @contextmanager
    def stage(self, name: str, total: float | None = None, unit: str = "") -> Iterator[Reporter]:
        stage = Stage(name, total, unit)
        self.stages.append(stage)
        self.opened.append(stage)
        yield self
        assert self.opened.pop() is stage

    def advance(self, n: float = 1) -> None:
        self.opened[-1].counts.append(n)

    def note(self, text: str) -> None:
        self.notes.append(text)

    def trial(self, scale: float, size: int) -> None:
        self.trials.append((scale, size))
