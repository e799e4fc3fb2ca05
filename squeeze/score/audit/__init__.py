"""`squeeze audit`: a submission run in a box, and every rule's verdict with its evidence.

docs/protocol.md is what a submission speaks, docs/rules.md what is checked and how.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from squeeze.files import scratch_folder
from squeeze.ledger.submission import MODEL
from squeeze.score.audit.evidence import Data, gather, load_data
from squeeze.score.audit.report import Audit
from squeeze.score.audit.rules import judge
from squeeze.score.audit.sandbox import Limits
from squeeze.score.audit.submission import load_submission

__all__ = ["Audit", "Data", "Limits", "audit", "load_data"]


def audit(
    submission: Path,
    data: Data,
    *,
    train_data: Sequence[Path] = (),
    validation_data: Sequence[Path] = (),
    limits: Limits | None = None,
    byte_limit: int = 16_000_000,
    serve_options: Sequence[str] = (),
    seed: int = 0,
    on_stage: Callable[[str], None] | None = None,
) -> Audit:
    """Audit a folder or a bare .sqz artifact on a validation span (see `load_data`).

    train_data: shards to search for the documents of validation_data. seed: chooses where requests are
    flipped. Raises SqueezeError when there is nothing to run; whatever a submission does is a verdict.
    """
    started = time.perf_counter()
    with scratch_folder("squeeze-artifact-") as folder:
        if submission.is_file():
            shutil.copy(submission, folder / MODEL)
            submission = folder
        found = load_submission(submission, serve_options)
        evidence = gather(found, data, limits or Limits(), byte_limit, seed, on_stage)
    if train_data:
        from squeeze.score.overlap import find_overlap
        from squeeze.train.data.shards import read_shard, read_shards

        if on_stage is not None:
            on_stage("training shards")
        evidence.overlap = find_overlap(
            read_shards(list(validation_data)), map(read_shard, train_data), data.bos
        )
    return Audit(evidence, judge(evidence), time.perf_counter() - started)
