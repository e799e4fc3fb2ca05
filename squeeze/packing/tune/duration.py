"""Number of updates that a tuned pack has time for, found before anything learns.

An update, the first model's answers, a few matrices' rounding and the second moments of inputs are timed
here and now. What follows from them depends on this machine and on how busy it is, so that a time is no
promise of the same bytes: the number is, and it is kept for an interrupted pack and reported.
"""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from squeeze.calib.tuning.distil import Course
from squeeze.errors import SqueezeError
from squeeze.files import read_json, write_atomic
from squeeze.packing.fit import Fitted
from squeeze.packing.kept import KeptCodes
from squeeze.packing.quantizer import Quantizer
from squeeze.packing.tune.student import SEEN, Student
from squeeze.reporter import Reporter

USED = (
    0.95  # share of the time that is planned for; the rest is for what takes longer than foreseen
)
SAMPLED = 4  # matrices that are rounded for their time
SCOUTED = 0.5  # time of a scout's search at a boundary, in roundings of all matrices that are left
TIMED = 0.02  # share of the time in which updates are timed, a few of them at least and at most
MOST_TIMED = 20
LANDINGS = 4  # roundings of the last share in the search for the limit


@dataclass(frozen=True)
class Pace:
    """Seconds that tuning takes.

    update: of an update
    answer: the first model's answers to the text of an update, more on the first visit of that text
    answered: updates until all text was visited; infinite where answers are not kept
    rounding: all rounding, searching and counting of second moments
    """

    update: float
    answer: float
    answered: float
    rounding: float

    def updates_within(self, seconds: float) -> int:
        """Return the largest number of updates that is expected to end in time; at least one.

        >>> Pace(1.0, 0.5, 10, 20.0).updates_within(100.0)
        70
        """
        left = USED * seconds - self.rounding
        visits = left / (self.update + self.answer)
        if visits > self.answered:
            visits = (left - self.answered * self.answer) / self.update
        return max(1, int(visits))

    def seconds_of(self, updates: int) -> float:
        """Return the expected seconds of a number of updates, with all rounding."""
        visits = min(updates, self.answered)
        return updates * self.update + visits * self.answer + self.rounding


def pace_of(
    student: Student,
    quantizer: Quantizer,
    fitted: Fitted,
    shares: Sequence[Sequence[str]],
    tokens: int,
    bits: float,
    seconds: float,
) -> Pace:
    """Return the pace of tuning here; the student is afterwards as it was.

    fitted: file that fits; its scales are those of the rounding that is timed
    shares: names of the matrices in the order in which they are rounded
    tokens: of an update
    bits: a weight, of the file
    seconds: that tuning may take; the longer, the more updates are timed
    """
    # of two updates the first warms up; later visits find the answers kept
    first = _timed_updates(student, 1, tokens, bits)[-1]
    pairs = int(TIMED * seconds / first) // 2
    updates = _timed_updates(student, min(max(pairs, 1), MOST_TIMED // 2), tokens, bits)
    update = sum(updates) / len(updates)
    return Pace(
        update=update,
        answer=max(first - update, 0.0),
        answered=_answered(student, tokens),
        rounding=_rounding(quantizer, fitted, shares)
        + (len(shares) - 1) * _moments(student, quantizer),
    )


def _timed_updates(student: Student, pairs: int, tokens: int, bits: float) -> list[float]:
    """Return the seconds of pairs of updates that learn from the same text; each pair is undone."""
    weights, stamps = student.weights, _Stamps()
    for _ in range(pairs):
        student.learn_(Course(2, tokens), bits, stamps)
        student.take_(weights)
    return stamps.seconds or [1e-4]  # nothing learns


class _Stamps(Reporter):
    """Reporter that takes the time of every update."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self._last = time.perf_counter()

    def advance(self, n: float = 1) -> None:
        """Keep the seconds since the last update."""
        now = time.perf_counter()
        self.seconds.append(now - self._last)
        self._last = now


def _answered(student: Student, tokens: int) -> float:
    """Return the updates after which all answers are kept; infinity where they are too many."""
    answers = student.answers
    rows, length = answers.text.ids.shape
    sizes = [answer.numel() * answer.element_size() for answer in answers.kept.values()]
    if not sizes or max(sizes) * rows > answers.most:
        return math.inf
    return rows / max(1, min(rows, tokens // length))


def _rounding(quantizer: Quantizer, fitted: Fitted, shares: Sequence[Sequence[str]]) -> float:
    """Return the expected seconds of all rounding and searching, from those of a few matrices."""
    names = [name for share in shares for name in share]
    sample = names[:: math.ceil(len(names) / SAMPLED)]
    counts = quantizer.weight_counts
    alone = replace(quantizer.only(sample), coder=KeptCodes(None))
    seconds = _timed(lambda: alone.quantize({name: fitted.scales[name] for name in sample}))
    return seconds * _roundings(counts, shares) / sum(counts[name] for name in sample)


def _roundings(counts: Mapping[str, int], shares: Sequence[Sequence[str]]) -> float:
    """Return the weights that are rounded in all, each as often as it is."""
    sizes = [sum(counts[name] for name in share) for share in shares]
    left = [sum(sizes[number:]) for number in range(1, len(sizes))]
    return sum(sizes[:-1]) + SCOUTED * sum(left) + LANDINGS * sizes[-1]


def _moments(student: Student, quantizer: Quantizer) -> float:
    """Return the expected seconds of second moments at one boundary, and of their factors."""
    text = student.answers.text
    some = SEEN // 8
    clock = time.perf_counter()
    hessians = student.hessians(some)
    counted = time.perf_counter() - clock
    factors = _timed(lambda: quantizer.with_hessians(hessians))
    length = text.length
    rows = [min(len(text.ids), max(1, tokens // length)) for tokens in (SEEN, some)]
    return counted * rows[0] / rows[1] + factors


def _timed(work: Callable[[], object]) -> float:
    """Return the seconds that work takes."""
    clock = time.perf_counter()
    work()
    return time.perf_counter() - clock


def kept_updates(path: Path, key: str, reporter: Reporter) -> int | None:
    """Return the number that an interrupted pack had found under this key; None: none, or damaged."""
    if not os.path.isfile(path):
        return None
    try:
        facts = read_json(path)
        updates = facts["updates"] if facts["key"] == key else None
    except (SqueezeError, ValueError, KeyError, TypeError, RecursionError) as error:
        reporter.note(f"made again: {path}: {error!r}")
        return None
    return updates if isinstance(updates, int) and 0 < updates < 1 << 31 else None


def keep_updates(path: Path, key: str, updates: int) -> None:
    """Keep a number under a key. Raises SqueezeError when it cannot be written."""
    write_atomic(path, json.dumps({"key": key, "updates": updates}).encode() + b"\n")
