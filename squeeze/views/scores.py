"""Scores of what is compared, where they are known: bits per byte before and after.

A submission folder has `submission.json` (its `val_bpb`). An artifact `model.sqz` has `model.eval.json`
beside it, what `squeeze eval model.sqz --json` printed; in a submission folder its `submission.json`
stands in. A score counts only for the file whose hash it states.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from squeeze.errors import SqueezeError
from squeeze.files import read_file, read_json, sha256
from squeeze.ledger.submission import CLAIMS, MODEL
from squeeze.score.report import EvalReport

REPORT = ".eval.json"
MAX_SIZE = 1 << 24  # bytes of a report
MALFORMED = (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError)


@dataclass(frozen=True)
class Score:
    """Bits per byte, the file that says so, and what was scored how: equal where two compare."""

    bpb: float
    source: str
    conditions: str

    def as_json(self) -> dict[str, Any]:
        """Return plain values."""
        return {"bpb": self.bpb, "source": self.source}


@dataclass(frozen=True)
class Scores:
    """Of two things that are compared; None where one has none. notes: sentences for the user."""

    before: Score | None
    after: Score | None
    notes: tuple[str, ...] = ()

    @property
    def delta(self) -> float | None:
        """Bits per byte more, None unless both are known and of the same text and mode."""
        if self.before is None or self.after is None:
            return None
        same = self.before.conditions == self.after.conditions
        return self.after.bpb - self.before.bpb if same else None

    def as_json(self) -> dict[str, Any]:
        """Return a plain dictionary for `--json`."""
        return {
            "before": self.before.as_json() if self.before else None,
            "after": self.after.as_json() if self.after else None,
            "delta": self.delta,
        }


def scores_of(before: Path, after: Path) -> Scores:
    """Return the scores of two files or folders, as far as they are stated."""
    notes: list[str] = []
    old, new = (_stated_score(path, notes) for path in (before, after))
    delta = Scores(old, new).delta
    if old is not None and new is not None and delta is None:
        notes.append("the scores are of other text or another mode: no difference")
    return Scores(old, new, tuple(notes))


def score_of(path: Path) -> Score | None:
    """Return the score of a file or folder; None where none is stated of these bytes."""
    return _stated_score(path, [])


def _stated_score(path: Path, notes: list[str]) -> Score | None:
    if path.is_dir():
        places, model = [path / CLAIMS, path / MODEL.replace(".sqz", REPORT)], path / MODEL
    else:
        places, model = [path.with_suffix(REPORT), path.with_name(CLAIMS)], path
    for place in places:
        if not place.is_file() or place.is_symlink():
            continue
        try:
            score = _read(place, model)
        except (SqueezeError, *MALFORMED) as error:
            notes.append(f"{place}: not a score: {str(error)[:80]}")
            continue
        if score is not None:
            return score
        notes.append(f"{place}: the score of another file")
    return None


def _read(place: Path, model: Path) -> Score | None:
    """Return the score in a report or a submission's claims; None when it is another model's."""
    facts = read_json(place, MAX_SIZE)
    read = _claimed if place.name == CLAIMS else _reported
    score, hashed = read(facts, place)
    if hashed is not None and model.is_file() and sha256(read_file(model)) != hashed:
        return None
    return score


def _reported(facts: Any, place: Path) -> tuple[Score, str]:
    """Return the score in a report of `squeeze eval`, and the hash of its model."""
    report = EvalReport.from_json(facts, place.name)
    hashes = report.sha256
    conditions = _conditions(report.mode, report.tokens, hashes.tokenizer, hashes.shards)
    return Score(report.bpb, place.name, conditions), hashes.model


def _claimed(facts: Any, place: Path) -> tuple[Score, str | None]:
    """Return the score in a submission's claims, and the hash of its model where they state one."""
    bpb = facts.get("val_bpb")
    if bpb is None:
        raise ValueError("it states no val_bpb")
    if isinstance(bpb, bool) or not isinstance(bpb, int | float) or not math.isfinite(bpb):
        raise ValueError(f"bits per byte are {bpb!r}")
    stated, score = facts.get("sha256") or {}, facts.get("score") or {}
    data, model = stated.get("data") or [], stated.get("model")
    shards = list(data.values() if isinstance(data, dict) else data)
    conditions = _conditions(
        score.get("mode", "window"), score.get("tokens"), stated.get("tokenizer"), shards
    )
    return Score(float(bpb), place.name, conditions), model if isinstance(model, str) else None


def _conditions(mode: str, tokens: int | None, tokenizer: str | None, shards: Sequence[str]) -> str:
    """Return what was scored how, as text that is equal where two scores compare."""
    facts = {"mode": mode, "tokens": tokens, "tokenizer": tokenizer, "data": sorted(shards)}
    return json.dumps(facts, sort_keys=True)
