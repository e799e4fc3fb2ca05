"""Which files of a submission folder are about it and not of it. They ship no bytes.

Unless run time opens them: the audit finds out (`squeeze.score.audit.rules_folder.shipped`).
"""

from __future__ import annotations

from pathlib import PurePath

PAPERS = {".md", ".rst", ".log", ".csv", ".png", ".svg"}
PAPER_NAMES = {"submission.json", "LICENSE", ".gitignore", "SHA256SUMS"}


def is_paper(name: str) -> bool:
    """Whether a file is documentation, a log, a picture, a licence or a statement of facts.

    >>> is_paper("run/README.md"), is_paper("seed1.json"), is_paper("requirements.txt")
    (True, True, False)
    """
    path = PurePath(name)
    return path.suffix in PAPERS or path.name in PAPER_NAMES or path.match("seed*.json")
