"""An audit as a terminal table, JSON, or Markdown for a pull request."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from rich.table import Table
from rich.text import Text

from squeeze import __version__
from squeeze.errors import printable
from squeeze.review.markdown import as_markdown
from squeeze.score.audit.evidence import Evidence
from squeeze.score.audit.rules import RULES
from squeeze.score.audit.verdict import FAIL, PASS, UNKNOWN, Verdict

MARKS = {PASS: "✅", FAIL: "❌", UNKNOWN: "➖"}
COLOURS = {PASS: "green", FAIL: "red", UNKNOWN: "yellow"}


@dataclass(frozen=True)
class Audit:
    """Verdicts by rule id, in order, and their evidence; wallclock seconds.

    notes: sentences on what the audit could not tell
    """

    evidence: Evidence
    verdicts: dict[str, Verdict]
    seconds: float
    notes: tuple[str, ...] = ()

    @property
    def failures(self) -> list[str]:
        """Ids of the rules that fail."""
        return [name for name, verdict in self.verdicts.items() if verdict.status == FAIL]

    @property
    def was_run(self) -> bool:
        """False when this machine lacks what the submission needs."""
        return self.verdicts["runs"].status != UNKNOWN

    def as_json(self) -> dict[str, Any]:
        """Return plain values for `--json`."""
        e = self.evidence
        return {
            "submission": str(e.submission.folder),
            "squeeze": __version__,
            "failed": self.failures,
            "rules": [
                {
                    "id": rule.id,
                    "title": rule.title,
                    "source": rule.source,
                    "status": self.verdicts[rule.id].status,
                    "evidence": self.verdicts[rule.id].evidence,
                    "data": self.verdicts[rule.id].data,
                }
                for rule in RULES
            ],
            "targets": len(e.data.span) - 1,
            "available_targets": e.data.available,
            "seed": e.options.seed,
            "isolation": e.isolation.facts(),
            "hook_loaded": e.watched,
            "hello": None if e.hello is None else e.hello.__dict__,
            "notes": list(self.notes),
            "seconds": round(self.seconds, 3),
        }

    def summary(self) -> str:
        """Return one line: the numbers of verdicts of each status, and of targets."""
        counts = {
            status: sum(verdict.status == status for verdict in self.verdicts.values())
            for status in (PASS, FAIL, UNKNOWN)
        }
        verdicts = ", ".join(f"{count} {status}" for status, count in counts.items())
        targets = len(self.evidence.data.span) - 1
        seed = self.evidence.options.seed
        return f"{verdicts}; {targets:,} of {self.evidence.data.available:,} targets, seed {seed}"

    def markdown(self) -> str:
        """Return a Markdown section for a pull request."""
        lines = [
            f"### squeeze audit: {'fails' if self.failures else 'nothing found'}",
            "",
            f"{self.summary()}, {self.seconds:.0f} s, squeeze {__version__}.",
            "",
            "| | rule | evidence |",
            "|---|---|---|",
        ]
        for rule in RULES:
            verdict = self.verdicts[rule.id]
            text = as_markdown(verdict.evidence)
            lines.append(f"| {MARKS[verdict.status]} {verdict.status} | {rule.title} | {text} |")
        lines += ["", *(f"- {as_markdown(note)}" for note in self.notes)] if self.notes else []
        facts = self.evidence.isolation.facts()
        lines += ["", "Isolation:", *(f"- {name}: {text}" for name, text in facts.items())]
        return "\n".join(lines) + "\n"

    def table(self) -> Table:
        """Return a rich table for the terminal."""
        table = Table(box=None, pad_edge=False, header_style="bold")
        for title in ("rule", "verdict", "evidence"):
            table.add_column(title, overflow="fold", no_wrap=title != "evidence")
        for rule in RULES:
            verdict = self.verdicts[rule.id]
            status = Text(verdict.status, style=COLOURS[verdict.status])
            table.add_row(rule.id, status, Text(printable(verdict.evidence)))
        return table
