"""The verdict of a rule on a submission: a status and the evidence for it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from squeeze.score.audit.evidence import Evidence

PASS, FAIL, UNKNOWN = "pass", "fail", "not checkable"


@dataclass(frozen=True)
class Verdict:
    """Outcome of one rule.

    status: PASS, FAIL or UNKNOWN
    evidence: one or two sentences with the numbers
    data: the numbers again, for JSON
    """

    status: str
    evidence: str
    data: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Rule:
    """A rule of docs/rules.md.

    source: document of the challenge that states it, or pull requests in which reviewers caught a breach
    after: rules that must hold for this one to be checkable
    """

    id: str
    title: str
    source: str
    check: Callable[[Evidence], Verdict]
    after: tuple[str, ...] = ()


def passed(evidence: str, **data: Any) -> Verdict:
    """Return the verdict that a rule holds."""
    return Verdict(PASS, evidence, data)


def failed(evidence: str, **data: Any) -> Verdict:
    """Return the verdict that a rule is broken."""
    return Verdict(FAIL, evidence, data)


def unknown(evidence: str, **data: Any) -> Verdict:
    """Return the verdict that a rule cannot be checked."""
    return Verdict(UNKNOWN, evidence, data)
