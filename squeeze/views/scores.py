"""Scores of what is compared, where they are known: bits per byte before and after.

A submission folder has `submission.json` (its `val_bpb`). An artifact `model.sqz` has `model.eval.json`
beside it, what `squeeze eval model.sqz --json` printed; in a submission folder its `submission.json`
stands in. A score counts only for the file whose hash it states.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from squeeze.errors import SqueezeError
from squeeze.files import read_file, sha256
from squeeze.ledger.submission import CLAIMS, MODEL

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
    """The score in a report or a submission's claims; None when it is another model's."""
    facts = json.loads(read_file(place, MAX_SIZE))
    submission = place.name == CLAIMS
    bpb = facts["val_bpb" if submission else "bpb"]
    if isinstance(bpb, bool) or not isinstance(bpb, int | float) or not math.isfinite(bpb):
        raise ValueError(f"bits per byte are {bpb!r}")
    hashes = facts.get("sha256") or {}
    stated = hashes.get("model")
    if not submission and not isinstance(stated, str):
        raise ValueError("no hash of the model")
    if isinstance(stated, str) and model.is_file() and sha256(read_file(model)) != stated:
        return None
    scored = facts.get("score") or {} if submission else facts
    data = hashes.get("data") or []
    conditions = {
        "mode": scored.get("mode", "window"),
        "tokens": scored.get("tokens"),
        "tokenizer": hashes.get("tokenizer"),
        "data": sorted(data.values() if isinstance(data, dict) else data),
    }
    return Score(float(bpb), place.name, json.dumps(conditions, sort_keys=True))
