"""The files of a submission folder by name, and which of them are about it and not of it.

Papers ship no bytes, unless run time opens them: the audit finds out
(`squeeze.score.audit.rules_folder.shipped`).
"""

from __future__ import annotations

from pathlib import PurePath

from squeeze.ledger.table import Ledger

CODE, MODEL, CLAIMS = "train_gpt.py", "model.sqz", "submission.json"
CARD, REQUIREMENTS, SUMS = "README.md", "requirements.txt", "SHA256SUMS"
PAPERS = {".md", ".rst", ".log", ".csv", ".png", ".svg"}
PAPER_NAMES = {CLAIMS, "LICENSE", ".gitignore", SUMS}


def is_paper(name: str) -> bool:
    """Return whether a file is documentation, a log, a picture, a licence or a statement of facts.

    >>> is_paper("run/README.md"), is_paper("seed1.json"), is_paper("requirements.txt")
    (True, True, False)
    """
    path = PurePath(name)
    return path.suffix in PAPERS or path.name in PAPER_NAMES or path.match("seed*.json")


def is_submission(ledger: Ledger) -> bool:
    """Return whether a ledger is of one submission: one train_gpt.py and something beside it."""
    files = ledger.files
    return len(files) > 1 and sum(PurePath(name).name == CODE for name in files) == 1


def shipped_bytes(ledger: Ledger) -> int:
    """Return the bytes that a limit is held against: of a submission, those of all but its papers."""
    papers = filter(is_paper, ledger.files) if is_submission(ledger) else ()
    return ledger.total - sum(ledger.files[name] for name in papers)
