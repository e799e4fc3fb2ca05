"""What a rule says of a submission: a status and the evidence for it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from squeeze.score.audit.evidence import Evidence

PASS, FAIL, UNKNOWN = "pass", "fail", "not checkable"


@dataclass(frozen=True)
class Verdict:
    """status: PASS, FAIL or UNKNOWN. evidence: one or two sentences with the numbers. data: the
    numbers again, for JSON."""

    status: str
    evidence: str
    data: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Rule:
    """A rule of docs/rules.md. source: where the challenge states it, or what reviewers caught.

    after: rules without which this one has nothing to compare; when one of them failed, this one is
    not checkable.
    """

    id: str
    title: str
    source: str
    check: Callable[[Evidence], Verdict]
    after: tuple[str, ...] = ()


def passed(evidence: str, **data: Any) -> Verdict:
    return Verdict(PASS, evidence, data)


def failed(evidence: str, **data: Any) -> Verdict:
    return Verdict(FAIL, evidence, data)


def unknown(evidence: str, **data: Any) -> Verdict:
    return Verdict(UNKNOWN, evidence, data)
