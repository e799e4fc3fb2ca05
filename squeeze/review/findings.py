"""A finding of a review: what agrees, what is flagged, and what the papers do not tell."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from squeeze.errors import printable

AGREES, FLAGGED, UNTOLD = "agrees", "flagged", "not told"


@dataclass(frozen=True)
class Finding:
    """A line of the review.

    status: AGREES, FLAGGED or UNTOLD
    text: a sentence or two with the numbers, printable
    data: the numbers again, for JSON
    """

    id: str
    title: str
    status: str
    text: str
    data: dict[str, Any] = field(default_factory=dict)


def finding(
    name: str,
    title: str,
    flags: Sequence[str],
    told: Sequence[str] = (),
    untold: str = "nothing to compare",
    **data: Any,
) -> Finding:
    """Return a finding: flagged when there are `flags`, else agreeing with what is told, else untold."""
    status = FLAGGED if flags else AGREES if told else UNTOLD
    sentences = [*flags, *told] or [untold]
    return Finding(name, title, status, printable("; ".join(sentences)), data)


def listed(names: Sequence[object], most: int = 4) -> str:
    """Return names for a sentence, the first `most` of them."""
    shown = [str(name) for name in names[:most]]
    return ", ".join(shown + (["…"] if len(names) > most else []))
