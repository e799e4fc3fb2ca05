"""Training logs as entrants hand them in: scores, timers, sizes and settings of each run.

Every pattern begins with literal text or is of bounded length, so a line costs time proportional to
its length, whatever stands in it. A log may hold several runs, one after the other, and the source of
the script; lines of source are no settings.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property

from squeeze.errors import printable
from squeeze.review.settings import comparable, pairs_of

NUMBER = r"([-+]?\d{1,15}(?:\.\d{1,20})?(?:[eE][-+]?\d{1,3})?)"
SCORE = re.compile(
    rf"val_loss[:=] ?{NUMBER}(?![\d.])[^\n]{{0,40}}?\bval_bpb[:=] ?{NUMBER}(?![\d.])"
)
STEP = re.compile(r"\bstep[:=] ?(\d{1,12})\b|(?<![\w./])(\d{1,12})/\d{1,12} (?:train|val)_loss\b")
TIMER = re.compile(r"\btrain_time[:=] ?(\d{1,15}(?:\.\d{1,9})?) ?(ms|s|min|m)\b")
EVALUATION = re.compile(r"\beval_time[:=] ?(\d{1,15}(?:\.\d{1,9})?) ?(ms|s|min|m)\b")
STEP_AVERAGE = re.compile(r"\bstep_avg[:=] ?(\d{1,12}(?:\.\d{1,9})?) ?ms")
SIZE = re.compile(
    r"\b(total|budget|serialized model|model|code)\b([^:\n|]{0,48}): ?"
    r"(?:(\d[\d,]{0,19}) ?bytes|(\d[\d,]{3,19})(?![\d.,]))",
    re.IGNORECASE,
)
SEED_IN_NAME = re.compile(r"(?:seed[_-]?|[_-]s)(\d{1,18})(?!\d)")
VALUE = re.compile(r"\S{1,40}[:=][-+]?[\d.]+\S{0,20}|[-+\d.:,/()]+")
UNITS = {"ms": 1.0, "s": 1e3, "m": 6e4, "min": 6e4}
RECENT_STEPS = 1000
MOST_DIGITS = 18  # of a seed
MOST_NAME = 60  # characters of a score's name


@dataclass(frozen=True)
class Score:
    """One line `NAME val_loss:X val_bpb:Y` of a log: nats a token, bits a byte.

    decimals: digits of the bits per byte after the point, as printed
    """

    name: str
    nats: float
    bpb: float
    decimals: int


@dataclass(frozen=True)
class Timer:
    """One reading of the training clock.

    milliseconds: since training began, validation left out
    step: steps done by then, None where the line has none
    average: milliseconds a step by the log's own count, None where the line has none
    unit: milliseconds of the unit it is printed in
    """

    milliseconds: float
    step: int | None
    average: float | None
    unit: float

    @property
    def exact(self) -> bool:
        """False where the clock is printed in minutes."""
        return self.unit < UNITS["m"]


@dataclass(frozen=True)
class LoggedRun:
    """One run of a training script, as its log tells it.

    log: name of the file, with a number behind it where the file holds several runs
    seed: as the log prints it, else as the file is named; named_seed: as the file is named
    scores: of whole evaluations, in order; those within training are left out
    sizes: (kind, bytes) in order; the kinds are total, model and code
    evaluation: seconds of the longest evaluation, 0 where none is timed
    settings: name → value as printed
    """

    log: str
    seed: int | None
    named_seed: int | None
    scores: tuple[Score, ...]
    timers: tuple[Timer, ...]
    sizes: tuple[tuple[str, int], ...]
    evaluation: float = 0.0
    settings: dict[str, str] = field(default_factory=dict)

    @property
    def final(self) -> Score | None:
        """The last score of the run."""
        return self.scores[-1] if self.scores else None

    @property
    def measured(self) -> bool:
        """True when the run tells a score, a time or a size of its artifact."""
        return bool(self.scores or self.timers or self.total)

    @property
    def fingerprint(self) -> tuple[object, ...]:
        """Everything measured: equal for two copies of one run, whatever their files are called."""
        return self.scores, self.timers, self.sizes

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
        """The latest reading of the clock; one in milliseconds goes before those in minutes."""
        return max(self.timers, key=lambda timer: (timer.exact, timer.milliseconds), default=None)

    @cached_property
    def step_milliseconds(self) -> float:
        """Time of a step when the run ended: the larger of the mean and the last rate; 0: unknown."""
        readings = [timer for timer in self.timers if timer.step and timer.exact]
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
    """Return the measured runs, each once: a log that is there twice is one run."""
    unique: dict[tuple[object, ...], LoggedRun] = {}
    for run in runs:
        if run.measured:
            unique.setdefault((run.seed, *run.fingerprint), run)
    return list(unique.values())


def _split(lines: list[str]) -> Iterator[list[str]]:
    """Yield the lines of each run: where steps begin again, another run has begun."""
    begin, last_step, last_measured = 0, 0, -1
    for index, line in enumerate(lines):
        step = _step_of(line)
        if step is not None:
            if step <= 1 < last_step and last_measured >= begin:
                yield lines[begin : last_measured + 1]
                begin = last_measured + 1
            last_step = step
        if step or SCORE.search(line) or SIZE.search(line):
            last_measured = index
    yield lines[begin:]


def _step_of(line: str) -> int | None:
    """Return the step of a line that tells a loss or a time within training."""
    match = STEP.search(line) if "_loss" in line or "train_time" in line else None
    return int(match[1] or match[2]) if match else None


def _run(name: str, lines: list[str], named_seed: int | None) -> LoggedRun:
    scores: list[Score] = []
    timers: list[Timer] = []
    sizes: list[tuple[str, int]] = []
    evaluations = [0.0]
    first_step = len(lines)
    for index, line in enumerate(lines):
        step = _step_of(line)
        if step is not None:
            first_step = min(first_step, index)
        score = SCORE.search(line)
        if score and step is None:
            scores.append(_score(line, score))
        average = STEP_AVERAGE.search(line)
        timers += [
            Timer(
                float(clock[1]) * UNITS[clock[2]],
                step,
                float(average[1]) if average else None,
                UNITS[clock[2]],
            )
            for clock in TIMER.finditer(line)
        ]
        evaluations += [
            float(clock[1]) * UNITS[clock[2]] / 1000 for clock in EVALUATION.finditer(line)
        ]
        sizes += [
            (_kind(size[1]), int((size[3] or size[4]).replace(",", "")))
            for size in SIZE.finditer(line)
            if "rate" not in size[2]
        ]
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
    )


def _score(line: str, match: re.Match[str]) -> Score:
    """Return the score of a line; the words before it are its name."""
    words = line[max(0, match.start() - 2 * MOST_NAME) : match.start()].split()
    name = " ".join(word for word in words if not VALUE.fullmatch(word))[:MOST_NAME]
    decimals = len(match[2].lower().partition("e")[0].partition(".")[2])
    return Score(printable(name) or "score", float(match[1]), float(match[2]), decimals)


def _kind(word: str) -> str:
    """Return total, model or code for the word that begins a size."""
    word = word.lower()
    return {"budget": "total", "serialized model": "model"}.get(word, word)
