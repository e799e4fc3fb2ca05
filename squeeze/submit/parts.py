"""Parts of a submission that is to be written, and the names of those that squeeze writes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from squeeze.ledger.submission import CODE
from squeeze.submit.claims import About

SCORER = ("python", CODE, "--serve")
EVALUATE = ("python", CODE, "--eval")


@dataclass(frozen=True)
class Parts:
    """Files and facts that a submission is made of.

    model: the .sqz artifact that ships
    about: authors, name and blurb
    script: train_gpt.py; None: our own, for the model's configuration and recipe
    files: shipped under their own names
    logs: shipped as papers
    seed_runs: reports of `squeeze eval --json` or logs of the script, as FILE or SEED=FILE, of the
        model that ships and of other seeds
    trainings: reports of `squeeze train --json`, or a checkpoint
    parents: submission folders, submission.json files or models
    scorer, evaluate: commands of the given script; None: it has no such command
    """

    model: Path
    about: About
    script: Path | None = None
    files: Sequence[Path] = ()
    logs: Sequence[Path] = ()
    seed_runs: Sequence[str] = ()
    trainings: Sequence[Path] = ()
    parents: Sequence[Path] = ()
    scorer: Sequence[str] | None = SCORER
    evaluate: Sequence[str] | None = None
