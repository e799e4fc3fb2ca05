"""Findings on scores: whether the stated one is the mean of the logs, and the difference to a parent."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from squeeze.review.claimed import ClaimedRuns, differences, is_same, score_of
from squeeze.review.claims import Claims, SeedClaim
from squeeze.review.deviation import NEITHER, stated_deviations
from squeeze.review.findings import Finding, finding, listed
from squeeze.review.folder import Folder
from squeeze.score.seeds.student import P_VALUE, SAME_TEXT, margin_in, p_text, welch

MOST_SHOWN = 6
# Names of scores that a log prints of the weights before they are rounded, or by the way.
BEFORE_PACKING = re.compile(
    r"pre[-_ ]?quant|unquantized|before[-_ ]quant|\bdiagnostic", re.IGNORECASE
)


def stated_score(folder: Folder, claimed: ClaimedRuns) -> Finding:
    """Compare the stated bits a byte with the scores in the logs."""
    title = "val_bpb stated / mean of the logs"
    claims = folder.claims
    scored = [run for run in folder.runs if run.scores]
    logged = "" if claimed.mean is None else f"{claimed.name} {claimed.mean:.6f}"
    if claims is None or claims.bpb is None:
        nats = f", but {claims.nats.field} {claims.nats.value}" if claims and claims.nats else ""
        return finding(
            "score", title, [f"no val_bpb stated{nats}"], [f"logs: {logged}"] if logged else []
        )
    stated = f"{claims.bpb.field} {claims.bpb.value}"
    flags, told = [], []
    if not scored:
        flags += [f"{stated}: {text}" for text in _within_training(folder, claims.bpb.value)]
        return finding("score", title, flags, untold=f"{stated}; no score in a log")
    count = len(
        {run.seed for run in claimed.runs} if claimed.kind == "one" else claimed.values("bpb")
    )
    if claimed.kind == "none":
        flags.append(f"{stated}: no log gives it; {logged} over {count}")
        flags += _within_training(folder, claims.bpb.value)
    elif claimed.kind == "seeds":
        mean = sum(claim.bpb for claim in claims.seeds if claim.bpb) / max(
            1, sum(claim.bpb is not None for claim in claims.seeds)
        )
        if is_same(mean, claims.bpb.value):
            told.append(f"{stated} is the mean of {_counted(claims.seeds)} ({claimed.name})")
        else:
            flags.append(
                f"{stated}, the mean of its {len(claims.seeds)} stated seeds is {mean:.6f}"
            )
    elif claimed.kind == "mean":
        told.append(f"{stated} is the mean of {count} logs ({claimed.name})")
    elif count > 1 and claimed.mean is not None and claimed.mean > claims.bpb.value + 1e-6:
        flags.append(f"{stated} is one of {count} logs; their mean is {claimed.mean:.6f}")
    else:
        told.append(f"{stated} is the score of one log ({claimed.name})")
    if claimed.kind != "none":
        if BEFORE_PACKING.search(claimed.name):
            flags.append(f"{claimed.name} is no score of the file that ships")
        flags += _other_loss(claims, claimed)
    for deviation in stated_deviations(claims, claimed):
        (flags if deviation.kind == NEITHER else told).append(deviation.text)
    if claimed.kind != "one":
        flags += _uneven_bytes(claimed)
    if claimed.absent:
        flags.append(f"no log of seed {listed(claimed.absent)}")
    flags += claimed.faults
    return finding("score", title, flags, told, mean=claimed.mean, runs=count)


def _within_training(folder: Folder, bpb: float) -> list[str]:
    """Return a sentence on a run whose last score in training is the stated one, none without one."""
    names = [
        run.log
        for run in folder.runs
        if run.in_training and is_same(run.in_training.bpb, bpb, run.in_training.decimals)
    ]
    return [
        f"{name} has it at its last step, of weights before they are rounded" for name in names[:1]
    ]


def _other_loss(claims: Claims, claimed: ClaimedRuns) -> list[str]:
    """Return a sentence on a stated loss that is not that of the stated score, none where it is."""
    if claims.nats is None or claimed.nats is None:
        return []
    stated = claims.nats.value
    if any(is_same(nats, stated) for nats in (claimed.nats, *claimed.values("nats"))):
        return []
    return [f"{claims.nats.field} {stated}, that of this score is {claimed.nats:.6f}"]


@dataclass(frozen=True)
class Parent:
    """The record that a submission was made from. named: by its own papers, empty where they do not."""

    named: str
    folder: Folder | None = None
    claimed: ClaimedRuns | None = None


def parent_difference(own: ClaimedRuns, parent: Parent) -> Finding:
    """Compare the scores with those of the parent, by the challenge's rule where the logs allow it."""
    title = "difference to the parent"
    other = parent.claimed
    if parent.folder is None or other is None:
        named = f"papers name {parent.named}; " if parent.named else ""
        return finding("parent", title, [], untold=f"{named}compare with --parent FOLDER")
    if own.mean is None or other.mean is None or own.nats is None or other.nats is None:
        return finding("parent", title, [], untold=f"{parent.folder.name}: no score in both logs")
    told = [
        f"{parent.folder.name}: {other.mean:.6f} → {own.mean:.6f} ({own.mean - other.mean:+.6f})"
    ]
    widths = _bytes_per_token(own), _bytes_per_token(other)
    unit = "nats"
    if abs(widths[0] - widths[1]) <= SAME_TEXT * widths[1]:
        told.append(f"{own.nats - other.nats:+.5f} nats a token")
    else:  # another tokenizer: nats a token do not compare
        unit = "bpb"
    margin = margin_in(unit, widths[1])
    data: dict[str, Any] = {"change_bpb": own.mean - other.mean}
    values = own.values(unit), other.values(unit)
    if min(map(len, values)) > 1:
        data["p"] = welch(*values, margin).p
        verdict = "passes" if data["p"] < P_VALUE else "does not pass"
        counts = f"{len(values[0])} and {len(values[1])} logs"
        told.append(f"0.005-nat rule: {verdict}, {p_text(data['p'])} from {counts}")
    else:
        told.append("one log is too few for a p-value")
    changed = differences(own.runs[0], other.runs[0]) if own.runs and other.runs else {}
    if changed:
        shown = [f"{name} {new} (was {old})" for name, (new, old) in changed.items()]
        told.append(f"{len(changed)} settings differ: {listed(shown, MOST_SHOWN)}")
    flags = [] if own.mean < other.mean else ["not better than its parent"]
    return finding("parent", title, flags, told, **data)


def _bytes_per_token(claimed: ClaimedRuns) -> float:
    """Return the bytes of a token that a score implies, 0 where it has none."""
    return (claimed.nats or 0.0) / math.log(2) / claimed.mean if claimed.mean else 0.0


def _uneven_bytes(claimed: ClaimedRuns) -> list[str]:
    """Return a sentence on runs whose scores are of other bytes a token, none where they agree."""
    widths = {
        run.log: score.nats / math.log(2) / score.bpb
        for run in claimed.runs
        if (score := score_of(run, claimed.name)) and score.bpb > 0 and score.nats is not None
    }
    ranked = sorted(widths, key=widths.__getitem__)
    if not ranked or widths[ranked[-1]] - widths[ranked[0]] <= SAME_TEXT * abs(widths[ranked[0]]):
        return []
    shown = [f"{widths[log]:.4f} in {log}" for log in (ranked[0], ranked[-1])]
    return [f"bytes a token, by val_loss / val_bpb, differ: {listed(shown)}"]


def _counted(seeds: Sequence[SeedClaim]) -> str:
    return f"{len(seeds)} stated seed{'s' * (len(seeds) != 1)}"
