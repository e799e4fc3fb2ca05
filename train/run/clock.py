"""The wallclock of a run: a ledger of where every second went, and the governor that ends it in time.

What the budget counts follows the challenge's training script: its timer stands still while kernels
are compiled and warmed up (on batches whose gradients are dropped) and during validation. All other
seconds since the run began count, and so does the time kept in reserve for packing.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from squeeze.errors import SqueezeError
from squeeze.train.optim.recipe import Recipe

OUTSIDE = ("compile and warm-up", "packing", "validation")  # stages that the budget does not count


class OutOfTime(SqueezeError):
    """Error of a budget that is too small: no step fits, or it was over before the model was written."""


@dataclass(frozen=True)
class Row:
    """Seconds of one stage, and whether they count towards the budget."""

    stage: str
    seconds: float
    inside: bool


class Clock:
    """A ledger of time: every second since it was created belongs to one stage, at first "setup".

    now: seconds from any fixed moment
    spent: seconds by stage of an earlier part of the same run
    """

    def __init__(
        self,
        now: Callable[[], float] = time.perf_counter,
        spent: dict[str, float] | None = None,
    ) -> None:
        self.now = now
        self.seconds = dict(spent or {})
        self._stages = ["setup"]
        self._since = now()

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Charge time to a stage while it is open; the stage around it pauses."""
        self._charge()
        self._stages.append(name)
        try:
            yield
        finally:
            self._charge()
            self._stages.pop()

    def of(self, stage: str) -> float:
        """Return the seconds of one stage until now."""
        self._charge()
        return self.seconds.get(stage, 0.0)

    def inside(self) -> float:
        """Return the seconds that count towards the budget until now."""
        self._charge()
        return sum(s for stage, s in self.seconds.items() if stage not in OUTSIDE)

    def ledger(self, recipe: Recipe | None = None) -> list[Row]:
        """Return all stages in the order they first began; with a recipe, its reserve too."""
        self._charge()
        rows = [Row(stage, s, stage not in OUTSIDE) for stage, s in self.seconds.items()]
        if recipe is not None and recipe.reserve_seconds:
            rows.append(Row("reserve", recipe.reserve_seconds, True))
        return rows

    def _charge(self) -> None:
        now = self.now()
        stage = self._stages[-1]
        self.seconds[stage] = self.seconds.get(stage, 0.0) + now - self._since
        self._since = now


class Governor:
    """The limits of a run: decides, from times that all ranks agree on, whether another step fits.

    export_seconds: time to keep for writing the result
    lag: steps that may be under way while their times are not known
    """

    def __init__(self, recipe: Recipe, export_seconds: float = 0.0, lag: int = 0) -> None:
        self.steps = recipe.steps
        self.seconds = recipe.budget_seconds - recipe.reserve_seconds - export_seconds
        self.timed = recipe.budget_seconds > 0
        self.lag = lag
        self.slowest = 0.0  # seconds of the slowest recent step: what the next one may take

    def note_step(self, seconds: float) -> None:
        """Take in the duration of a step."""
        self.slowest = max(seconds, 0.9 * self.slowest)

    def progress(self, elapsed: float, done: int) -> float:
        """Return the fraction 0…1 of the run that is over, by the limit that will end it first.

        elapsed: seconds that count so far
        done: steps so far
        """
        by_time = elapsed / max(self.seconds, 1e-9) if self.timed else 0.0
        by_steps = done / self.steps if self.steps else 0.0
        return min(1.0, max(by_time, by_steps))

    def seconds_left(self, elapsed: float, progress: float) -> float:
        """Return the seconds until the run ends; estimated where the number of steps ends it."""
        left = self.seconds - elapsed
        if not self.timed or progress > elapsed / self.seconds:
            left = elapsed * (1.0 / progress - 1.0)
        return max(0.0, left)

    def is_over(self, elapsed: float, done: int) -> bool:
        """Return whether the next step would end too late."""
        late = self.timed and elapsed + (1 + self.lag) * self.slowest > self.seconds
        return late or self.progress(elapsed, done) >= 1.0


def check_in_time(clock: Clock, recipe: Recipe) -> None:
    """Raise OutOfTime when the budget is over: nothing may be written after it."""
    elapsed = clock.inside()
    if recipe.budget_seconds and elapsed > recipe.budget_seconds:
        raise OutOfTime(
            "the time budget was over before the model was written: nothing was exported",
            expected=f"≤ {recipe.budget_seconds:g} s",
            found=f"{elapsed:.2f} s",
            fix="Raise reserve_seconds.",
        )
