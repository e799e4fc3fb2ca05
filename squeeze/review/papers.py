"""The finding on what the challenge asks for: card, claims, a log, and a script that compiles."""

from __future__ import annotations

import re

from squeeze.ledger.submission import CARD, CLAIMS
from squeeze.review.findings import Finding, finding, listed
from squeeze.review.folder import Folder
from squeeze.review.values import Numeral

NUMBERS = re.compile(r"(?<![\d.])[0-3]\.\d{3,10}(?!\d)")  # of the size of bits a byte


def papers(folder: Folder) -> Finding:
    """Check that everything the challenge asks for is there and can be read."""
    flags, told = [], []
    claims = folder.claims
    if folder.card is None or not folder.card.strip():
        flags.append(f"no {CARD}")
    if claims is None:
        flags.append(f"no {CLAIMS}")
    else:
        if claims.name != CLAIMS:
            flags.append(f"{claims.name} is not called {CLAIMS}")
        flags += [f"{claims.name}: {fault}" for fault in claims.faults]
        lacking = [name for name in ("name", "github_id") if not claims.text(name).strip()]
        if not (claims.text("author").strip() or claims.fields.get("authors")):
            lacking.append("author")
        if lacking:
            flags.append(f"{claims.name} has no {listed(lacking)}")
    if not any(run.scores or run.timers for run in folder.runs):
        flags.append("no training log")
    if folder.script is None:
        flags.append("no script")
    else:
        flags += folder.script.faults
        told.append(f"script {folder.script.name}")
    if claims and claims.bpb and folder.card and not _is_told(folder.card, claims.bpb.value):
        flags.append(f"{CARD} does not give {claims.bpb.field} {claims.bpb.value}")
    return finding("papers", "papers", flags, told)


def _is_told(card: str, bpb: float) -> bool:
    """Return whether a text gives a score, in as many digits as it likes."""
    if str(float(bpb)) in card:
        return True
    least = 10.0 ** -min(4, bpb.decimals if isinstance(bpb, Numeral) else 4)
    return any(
        abs(float(text) - bpb) <= 1.01 * max(least, _unit(text)) for text in NUMBERS.findall(card)
    )


def _unit(text: str) -> float:
    """Return the value of the last digit of a number."""
    return 10.0 ** -len(text.partition(".")[2])
