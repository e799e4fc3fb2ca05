"""The review of a submission folder by its papers: one table of findings. Nothing of it is run."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from squeeze import __version__
from squeeze.review.findings import FLAGGED, Finding
from squeeze.review.folder import Folder, read_folder
from squeeze.review.markdown import as_markdown
from squeeze.review.papers import papers
from squeeze.review.runs import clock, configurations
from squeeze.review.scores import Parent, parent_difference, stated_score
from squeeze.review.sizes import counted_code, stated_bytes, total_bytes

PULL = re.compile(r"#\d{2,5}\b")  # a pull request in a card
LIMIT = 16_000_000  # bytes
HEADING = "### squeeze review: "  # first characters of every section for a pull request


@dataclass(frozen=True)
class Review:
    """Findings on a folder, in the order of the table. limit: bytes"""

    folder: Folder
    limit: int
    findings: tuple[Finding, ...]

    @property
    def flagged(self) -> list[str]:
        """Ids of the findings that are flagged."""
        return [finding.id for finding in self.findings if finding.status == FLAGGED]

    def summary(self) -> str:
        """Return one line: how many findings are flagged."""
        count = len(self.flagged)
        return f"{count} of {len(self.findings)} flagged; nothing was run"

    def as_json(self) -> dict[str, Any]:
        """Return a plain dictionary for `--json`."""
        return {
            "folder": str(self.folder.path),
            "squeeze": __version__,
            "limit": self.limit,
            "record": self.folder.is_record,
            "flagged": self.flagged,
            "findings": [vars(finding) for finding in self.findings],
            "logs": [run.log for run in self.folder.runs],
        }

    def markdown(self) -> str:
        """Return a section for a pull request."""
        lines = [
            f"{HEADING}{as_markdown(self.folder.name)}",
            "",
            f"{self.summary()}, squeeze {__version__}.",
            "",
            "| | finding | evidence |",
            "|---|---|---|",
        ]
        lines += [
            f"| {finding.status} | {finding.title} | {as_markdown(finding.text)} |"
            for finding in self.findings
        ]
        return "\n".join(lines) + "\n"


def review(path: Path, limit: int = LIMIT, parent: Path | None = None) -> Review:
    """Review a submission folder as it lies there.

    parent: folder of the record it was made from; None: the one beside it that its papers name

    Raises SqueezeError for what is no folder, or holds more than a submission does.
    """
    folder = read_folder(path)
    claimed, trained = folder.claimed, folder.trained
    findings = (
        papers(folder),
        total_bytes(folder, trained, limit),
        counted_code(folder, trained),
        stated_bytes(folder, trained, limit),
        stated_score(folder, claimed),
        clock(folder, trained),
        configurations(folder, claimed),
        parent_difference(claimed, read_parent(folder, parent)),
    )
    return Review(folder, limit, findings)


def read_parent(folder: Folder, path: Path | None) -> Parent:
    """Return the parent at a path, else the sibling that the folder's claims name, as far as known."""
    names = folder.claims.parents if folder.claims else ()
    named = ", ".join(names or list(dict.fromkeys(PULL.findall(folder.card or "")))[:3])[:200]
    if path is None:
        path = next((sibling for name in names if (sibling := _sibling(folder, name))), None)
    if path is None:
        return Parent(named)
    parent = read_folder(path)
    return Parent(named, parent, parent.claimed)


def _sibling(folder: Folder, name: str) -> Path | None:
    """Return the folder beside this one that a text names."""
    beside = folder.path.resolve().parent
    for word in name.replace("/", " ").split():
        if word not in (".", "..") and word != folder.name and (beside / word).is_dir():
            return beside / word
    return None
