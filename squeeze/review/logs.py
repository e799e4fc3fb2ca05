"""Training logs as entrants hand them in: scores, timers, sizes and settings of each run.

`squeeze.review.lines` reads a line. A log may hold several runs, one after the other, and the source of
the script; lines of source are no settings.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property

from squeeze.errors import printable
from squeeze.review.lines import (
    UNITS,
    Score,
    Timer,
    bits_in,
    evaluations_in,
    score_in,
    sizes_in,
    step_of,
    timers_in,
)
from squeeze.review.settings import comparable, pairs_of

SEED_IN_NAME = re.compile(r"(?:seed[_-]?|[_-]s)(\d{1,18})(?!\d)")
RECENT_STEPS = 1000
MOST_DIGITS = 18  # of a seed
LATE = 10_000.0  # milliseconds of training; the first steps of two runs may take the same time
LEAST_DECIMALS = 6  # of a score that no two seeds share


@dataclass(frozen=True)
class LoggedRun:
    """One run of a training script, as its log tells it.

    log: name of the file, with a number behind it where the file holds several runs
    seed: as the log prints it, else as the file is named; named_seed: as the file is named
    scores: of whole evaluations, in order
    sizes: (kind, bytes) in order; the kinds are total, model and code
    evaluation: seconds of the longest evaluation, 0 where none is timed
    settings: name → value as printed
    in_training: the last score of a step, of weights that no file holds; None without one
    bits: scores of whole evaluations of which the log gives the bits a byte alone, in order
    """

    log: str
    seed: int | None
    named_seed: int | None
    scores: tuple[Score, ...]
    timers: tuple[Timer, ...]
    sizes: tuple[tuple[str, int], ...]
    evaluation: float = 0.0
    settings: dict[str, str] = field(default_factory=dict)
    in_training: Score | None = None
    bits: tuple[Score, ...] = ()

    @property
    def final(self) -> Score | None:
        """The last score of the run."""
        return self.scores[-1] if self.scores else None

    @property
    def measured(self) -> bool:
        """True when the run tells a score, a time or a size of its artifact."""
        return bool(self.scores or self.bits or self.timers or self.total)

    @property
    def identity(self) -> object:
        """Equal for copies of one run, whatever their files are called: its score, if exact, or all."""
        exact = self.final is not None and self.final.decimals >= LEAST_DECIMALS
        return self.final if exact else (self.scores, self.timers, self.sizes)

    @cached_property
    def exact_timers(self) -> set[Timer]:
        """Readings of the clock that no other run shares by chance: late ones, to the millisecond."""
        return {t for t in self.timers if t.milliseconds >= LATE and t.unit <= UNITS["ms"]}

    @cached_property
    def code(self) -> int | None:
        """Bytes of code that the run counted, None where the log has none."""
        codes = [size for kind, size in self.sizes if kind == "code"]
        return codes[-1] if codes else None

    @cached_property
    def total(self) -> int | None:
        """Bytes of the artifact that the run counted, None where the log has none."""
        totals = [size for kind, size in self.sizes if kind == "total"]
        return totals[-1] if totals else None

    @cached_property
    def model(self) -> int | None:
        """Bytes of the compressed model: the size that makes up the total with the code, or the last."""
        models = [size for kind, size in self.sizes if kind == "model"]
        if self.total is not None and self.code is not None:
            return self.total - self.code
        return models[-1] if models else None

    @cached_property
    def longest(self) -> Timer | None:
        """The latest reading of the clock, by the least time that it stands for."""
        return max(self.timers, key=lambda t: t.milliseconds - t.rounding, default=None)

    @cached_property
    def step_milliseconds(self) -> float:
        """Time of a step when the run ended: the larger of the mean and the last rate; 0: unknown."""
        readings = [timer for timer in self.timers if timer.step and not timer.rounding]
        if not readings:
            return min((t.average for t in self.timers if t.average), default=0.0)
        last = max(readings, key=lambda timer: timer.milliseconds)
        rates = [last.milliseconds / (last.step or 1)]
        for before in readings:
            steps = (last.step or 0) - (before.step or 0)
            if 0 < steps <= RECENT_STEPS:
                rates.append((last.milliseconds - before.milliseconds) / steps)
        return max(rates)


def read_runs(name: str, text: str) -> list[LoggedRun]:
    """Return the runs that a log holds, in order; a log without any measurement is one run."""
    parts = list(_split(text.splitlines()))
    seed = SEED_IN_NAME.search(name.rpartition("/")[2].lower())
    named = int(seed[1]) if seed and len(parts) == 1 else None
    shown = printable(name)
    return [
        _run(shown if len(parts) == 1 else f"{shown} ({index})", lines, named)
        for index, lines in enumerate(parts, 1)
    ]


def distinct_runs(runs: list[LoggedRun]) -> list[LoggedRun]:
    """Return the measured runs, each once: a log that is there twice, or cut, is one run."""
    unique: dict[object, LoggedRun] = {}
    for run in runs:
        if run.measured:
            key = (run.seed, run.identity)
            unique[key] = max(unique.get(key, run), run, key=lambda run: len(run.timers))
    return list(unique.values())


def _split(lines: list[str]) -> Iterator[list[str]]:
    """Yield the lines of each run: where steps begin again, another run has begun."""
    begin, last_step, last_measured = 0, 0, -1
    for index, line in enumerate(lines):
        step = step_of(line)
        if step is not None:
            if step <= 1 < last_step and last_measured >= begin:
                yield lines[begin : last_measured + 1]
                begin = last_measured + 1
            last_step = step
        if step or score_in(line) or sizes_in(line):
            last_measured = index
    yield lines[begin:]


def _run(name: str, lines: list[str], named_seed: int | None) -> LoggedRun:
    scores: list[Score] = []
    timers: list[Timer] = []
    sizes: list[tuple[str, int]] = []
    evaluations = [0.0]
    bits: list[Score] = []
    in_training: Score | None = None
    first_step = len(lines)
    for index, line in enumerate(lines):
        step = step_of(line)
        if step is not None:
            first_step = min(first_step, index)
        score = score_in(line)
        if step is not None:
            in_training = score or in_training
        elif score:
            scores.append(score)
        elif alone := bits_in(line):
            bits.append(alone)
        timers += timers_in(line, step)
        evaluations += evaluations_in(line)
        sizes += sizes_in(line)
    pairs = pairs_of(lines[:first_step])
    stated = pairs.get("seed", "")
    return LoggedRun(
        name,
        int(stated) if stated.isdecimal() and len(stated) <= MOST_DIGITS else named_seed,
        named_seed,
        tuple(scores),
        tuple(timers),
        tuple(sizes),
        max(evaluations),
        comparable(pairs),
        in_training,
        tuple(bits),
    )
