"""The files of a submission folder by name, and which of them are about it and not of it.

Papers ship no bytes, unless the script reads them (`squeeze.ledger.reached`) or run time opens them: the
audit finds out (`squeeze.score.audit.rules_folder.shipped`).
"""

from __future__ import annotations

import re
from pathlib import PurePath

from squeeze.ledger.table import Ledger

CODE, MODEL, CLAIMS = "train_gpt.py", "model.sqz", "submission.json"
CARD, REQUIREMENTS, SUMS = "README.md", "requirements.txt", "SHA256SUMS"
PAPERS = set(".md .rst .csv .tsv .html .ipynb .pdf .png .svg .jpg .jpeg .gif .webp".split())
MODELS = set(".sqz .ptz .pt .pth .safetensors .npz .pkl .gguf .bin .xz .lzma .br .zst".split())
LOGS = {".log", ".out"}
LOG_WORDS = set("log logs train training run runs seed eval stdout stderr console output".split())
SHIPPED_WORDS = set("requirements constraints vocab merges tokens tokenizer weights model".split())
PAPER_NAMES = {CLAIMS, ".gitignore", SUMS}
LICENCES = re.compile(r"(licen[cs]e|copying|notice)(\.txt)?", re.IGNORECASE)


def is_paper(name: str) -> bool:
    """Return whether a file is called like documentation, a log, a picture, a licence or statements.

    >>> is_paper("run/README.md"), is_paper("seed1.json"), is_paper("requirements.txt")
    (True, True, False)
    """
    path = PurePath(name)
    stated = path.match(f"{PurePath(CLAIMS).stem}*.json") or path.match("seed*.json")
    named = path.name in PAPER_NAMES or bool(LICENCES.fullmatch(path.name))
    return is_log(name) or path.suffix.lower() in PAPERS or named or stated


def is_log(name: str) -> bool:
    """Return whether a file is a log by its name: `.log`, or text in a folder or of a name of logs.

    >>> is_log("train0.txt"), is_log("logs/s42.txt"), is_log("requirements.txt"), is_log("vocab.txt")
    (True, True, False, False)
    """
    path = PurePath(name)
    words = set(re.findall("[a-z]+", path.stem.lower()))
    folders = set(re.findall("[a-z]+", str(path.parent).lower()))
    is_text = path.suffix.lower() == ".txt" and not words & SHIPPED_WORDS
    return path.suffix.lower() in LOGS or (
        is_text and bool(words & LOG_WORDS or folders & {"log", "logs"})
    )


def is_submission(ledger: Ledger) -> bool:
    """Return whether a ledger is of one submission: one train_gpt.py and something beside it."""
    files = ledger.files
    return len(files) > 1 and sum(PurePath(name).name == CODE for name in files) == 1


def shipped_bytes(ledger: Ledger) -> int:
    """Return the bytes that a limit is held against: of a submission, those of all but its papers."""
    papers = ledger.papers if is_submission(ledger) else {}
    return ledger.total - sum(papers.values())
