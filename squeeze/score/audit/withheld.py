"""Predictions made while the text after them is withheld: nothing later can have been looked at.

A request ends right before its target, and requests are asked in the order of the text, of a process
that holds no other text. So what such a prediction is worth needs no trust; the sweep and the report,
which do not know which targets these are, must be worth as much at them.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from squeeze.reporter import SILENT, Reporter
from squeeze.score.audit.client import Float32, Session, Tokens
from squeeze.score.audit.probe import Float64, log_mass, plan_windows

Int64 = npt.NDArray[np.int64]

RARE = 64  # BOS targets that are always among the checks
LEAST = 256  # checks that are made however long they take


@dataclass(frozen=True)
class Withheld:
    """Targets of a span, predicted without the text from them on.

    targets: int64 [K], ascending; target i is span[i + 1]
    drawn: bool [K], True for those drawn evenly from all targets, False for the added BOS
    losses: float64 [K], nats under the normalised distribution
    mass: float64 [K], logarithm of the sum of all V probabilities
    """

    targets: Int64
    drawn: npt.NDArray[np.bool_]
    losses: Float64
    mass: Float64


@dataclass(frozen=True)
class Checks:
    """Targets to check: `drawn` evenly from all and `rare` ones besides, both int64, ascending."""

    drawn: Int64
    rare: Int64


def draw_checks(span: Tokens, bos: int, count: int, seed: int) -> Checks:
    """Return `count` random targets of a span, or all, and some of those that are BOS."""
    random = np.random.default_rng(seed)
    targets = len(span) - 1
    drawn = np.sort(random.choice(targets, min(count, targets), replace=False))
    begins = np.setdiff1d(np.flatnonzero(span[1:] == bos), drawn)
    rare = np.sort(random.permutation(begins)[:RARE])
    return Checks(drawn, rare)


def ask_withheld(
    session: Session,
    span: Tokens,
    bos: int,
    checks: Checks,
    seconds: float,
    reporter: Reporter = SILENT,
) -> Withheld:
    """Ask for the predictions of the checked targets, each before the text from it on is sent.

    seconds: when they would take longer, evenly spread ones are left out, down to LEAST
    reporter: counts targets
    """
    targets = np.union1d(checks.drawn, checks.rare)
    rows = _fed if session.hello.stateful else _windows
    chosen = _in_time(targets, seconds)
    asked, losses, mass = [], [], []
    for target, row in rows(session, span, bos, chosen):
        total = float(log_mass(row)[0])
        asked.append(target)
        losses.append(total - float(row[0, span[target + 1]]))
        mass.append(total)
        reporter.advance()
    done = np.array(asked, np.int64)
    return Withheld(done, np.isin(done, checks.drawn), np.array(losses), np.array(mass))


def _in_time(targets: Int64, seconds: float) -> Iterator[int]:
    """Yield the targets in order, and skip some whenever the time runs ahead of the text."""
    core = max(1, len(targets) // LEAST)
    start = time.monotonic()
    for number, target in enumerate(targets.tolist()):
        late = time.monotonic() - start > seconds * (number + 1) / len(targets)
        if number % core == 0 or not late:
            yield target


def _windows(
    session: Session, span: Tokens, bos: int, targets: Iterator[int]
) -> Iterator[tuple[int, Float32]]:
    """Yield (target, row [1, V]) from windows that end before the target."""
    plan = plan_windows(session.hello, span, bos)
    for target in targets:
        window = int(np.searchsorted(plan.first, target, side="right")) - 1
        start = int(plan.start[window])
        yield target, session.score(span[start : target + 1], target - start)


def _fed(
    session: Session, span: Tokens, bos: int, targets: Iterator[int]
) -> Iterator[tuple[int, Float32]]:
    """Yield (target, row [1, V]) from a stream that is fed up to each target in turn."""
    done, most = 0, session.rows_per_answer
    for target in targets:
        while done <= target:
            part = span[done : min(target + 1, done + most)]
            ask = session.feed if done else session.score
            row = ask(part, len(part) - 1)
            done += len(part)
        yield target, row
