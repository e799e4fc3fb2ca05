"""`squeeze audit`: a submission run in a box, and every rule's verdict with its evidence.

docs/protocol.md is what a submission speaks, docs/rules.md what is checked and how.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from pathlib import Path

from squeeze.files import scratch_folder
from squeeze.score.audit.evidence import AuditOptions, Data, gather, load_data
from squeeze.score.audit.report import Audit
from squeeze.score.audit.rules import judge
from squeeze.score.audit.sandbox import Limits
from squeeze.score.audit.submission import load_submission
from squeeze.score.overlap import find_overlap
from squeeze.train.data.shards import read_shard, read_shards

__all__ = ["Audit", "AuditOptions", "Data", "Limits", "audit", "load_data"]


def audit(
    submission: Path,
    data: Data,
    options: AuditOptions = AuditOptions(),  # noqa: B008  frozen
    on_stage: Callable[[str], None] | None = None,
) -> Audit:
    """Audit a folder or a bare .sqz artifact on a validation span (see `load_data`).

    on_stage: called with the name of each stage that begins

    Raises SqueezeError when there is nothing to run; whatever a submission does is a verdict.
    """
    start = time.perf_counter()
    with scratch_folder("squeeze-artifact-") as folder:
        if submission.is_file():
            shutil.copy(submission, folder / "model.sqz")
            submission = folder
        loaded = load_submission(submission, options.serve_options)
        evidence = gather(loaded, data, options, on_stage)
    if options.train_data:
        if on_stage is not None:
            on_stage("training shards")
        validation = read_shards(list(data.shards))
        evidence.overlap = find_overlap(validation, map(read_shard, options.train_data), data.bos)
    return Audit(evidence, judge(evidence), time.perf_counter() - start)
