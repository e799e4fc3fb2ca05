"""Experiments on one running submission: its predictions, and the changes of text that move them.

All comparisons are between answers to requests of one shape, so that an honest submission gives equal
numbers up to the noise of its arithmetic.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from squeeze.reporter import SILENT, Reporter
from squeeze.score.audit.client import Float32, Hello, Session, Tokens
from squeeze.score.plan import Plan, document_spans, spans

Float64 = npt.NDArray[np.float64]

FEED = 1024  # tokens of one feed in a sweep
LIKELY = -15.0  # log-probabilities below this are noise in low precision and are not compared
SHORT = 128  # tokens of a flip without an update in between
TRIALS = 4


@dataclass(frozen=True)
class Sweep:
    """All targets of a span, once.

    losses: float64 [n - 1], nats under the normalised distribution
    mass: float64 [n - 1], logarithm of the sum of all V probabilities: 0 when they sum to one, NaN
        where one is not a number
    """

    losses: Float64
    mass: Float64


@dataclass(frozen=True)
class Flip:
    """One experiment: tokens from `position` of the span on were changed; for documents, those before.

    start: first token of the request
    compared: rows that must not move
    moved: largest change, in nats, of a log-probability in them
    where: token after which it moved
    """

    start: int
    position: int
    compared: int
    moved: float
    where: int


def sweep(session: Session, span: Tokens, bos: int, reporter: Reporter = SILENT) -> Sweep:
    """Return losses and masses of all targets, in the order and contexts of the declaration.

    reporter: counts targets
    """
    losses, mass = np.empty(len(span) - 1), np.empty(len(span) - 1)
    for first, rows in _all_rows(session, span, bos):
        targets = span[first + 1 : first + 1 + len(rows)]
        total = log_mass(rows)
        mass[first : first + len(rows)] = total
        losses[first : first + len(rows)] = total - rows[np.arange(len(rows)), targets]
        reporter.advance(len(rows))
    return Sweep(losses, mass)


def log_mass(rows: Float32) -> Float64:
    """Return the logarithm of the sum of probabilities of each row [n, V], float64 [n]."""
    with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
        return np.log(np.exp(rows.astype(np.float64)).sum(axis=1))


def _all_rows(session: Session, span: Tokens, bos: int) -> Iterator[tuple[int, Float32]]:
    """Yield (position of the first token, rows after it and the next ones), each position once."""
    last = len(span) - 1  # the last token is only a target
    hello = session.hello
    if hello.stateful:
        step = min(FEED, session.rows_per_answer)
        for at in range(0, last, step):
            ask = session.feed if at else session.score
            yield at, ask(span[at : min(at + step, last)])
        return
    plan = plan_windows(hello, span, bos)
    for start, first, stop in zip(plan.start, plan.first, plan.stop, strict=True):
        yield int(first), session.score(span[start:stop], int(first - start))


def plan_windows(hello: Hello, span: Tokens, bos: int) -> Plan:
    """Return the windows that a stateless submission's score has, by its declaration."""
    begin, outputs = np.zeros(1, np.int64), np.array([len(span) - 1])
    if hello.isolated:
        begin, outputs = document_spans(span, bos)
    return spans(begin, outputs, hello.window, hello.stride)


def moved(first: Float32, second: Float32) -> tuple[float, int]:
    """Return the largest change of a likely token between rows [n, V], and its row; (0, 0) for n = 0."""
    if not len(first):
        return 0.0, 0
    with np.errstate(invalid="ignore"):
        change = np.abs(first.astype(np.float64) - second)
        change[np.maximum(first, second) < LIKELY] = 0
        change = np.nan_to_num(change, nan=np.inf)
        change[first == second] = 0
    by_row = change.max(axis=1)
    where = int(by_row.argmax())
    return float(by_row[where]), where


def altered(tokens: Tokens, at: npt.NDArray[np.bool_], bos: int, seed: int) -> Tokens:
    """Return a copy with every token marked in bool [n] replaced by another; BOS stay where they are."""
    others = np.unique(tokens[tokens != bos])
    changed = tokens.copy()
    for i in np.flatnonzero(at & (tokens != bos)):
        choice = others[others != tokens[i]]
        if len(choice):
            changed[i] = choice[(seed + int(i)) % len(choice)]
    return changed


def flip_future(session: Session, span: Tokens, bos: int, length: int, seed: int) -> list[Flip]:
    """Change the tokens after a cut; the rows up to the cut must stay.

    A submission could peek at, or learn from, the cut's own target and all that follows in the request.
    """
    random = np.random.default_rng(seed)
    length = min(length, len(span) - 1, session.rows_per_answer)
    flips = []
    for trial in range(TRIALS if length >= 2 else 0):
        start = int(random.integers(0, len(span) - length))
        tokens = span[start : start + length]
        # the first trial cuts just before the end: a model may look one token ahead and no further
        cut = length - 2 if trial == 0 else int(random.integers(length // 4, length - 1))
        changed = altered(tokens, np.arange(length) > cut, bos, trial)
        # tokens that a stateful submission is fed later must be as unseen as those of its first request
        split = int(random.integers(0, cut + 1)) if session.hello.stateful and trial % 2 else 0
        rows = [_ask(session, text, split)[: cut + 1] for text in (tokens, changed)]
        size, where = moved(*rows)
        flips.append(Flip(start, start + cut + 1, cut + 1, size, start + where))
    return flips


def _ask(session: Session, tokens: Tokens, split: int) -> Float32:
    """Return rows after every token, the first `split` scored and the others fed."""
    if not split:
        return session.score(tokens)
    return np.concatenate([session.score(tokens[:split]), session.feed(tokens[split:])])


def flip_documents(session: Session, span: Tokens, bos: int) -> list[Flip]:
    """Change all text before a document; its rows must stay."""
    hello, flips = session.hello, []
    # stateless submissions are never asked for more than a window; others adapt to the text before
    before = 2 * hello.chunk if hello.stateful else hello.window // 2
    after = SHORT if hello.stateful else hello.window - before
    before = min(before, session.rows_per_answer - after)
    begins = [int(b) for b in np.flatnonzero(span == bos) if 0 < b < len(span) - 1]
    # documents that have as much before them as is looked at
    for begin in sorted(begins, key=lambda b: (max(0, before - b), b))[:2]:
        start, stop = max(0, begin - before), min(begin + after, len(span) - 1)
        tokens, skip = span[start:stop], begin - start
        changed = altered(tokens, np.arange(len(tokens)) < skip, bos, begin)
        rows = session.score(tokens, skip), session.score(changed, skip)
        size, where = moved(*rows)
        flips.append(Flip(start, begin, len(rows[0]), size, begin + where))
    return flips
