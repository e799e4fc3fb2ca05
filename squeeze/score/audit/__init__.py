"""`squeeze audit`: a submission run in a box, and every rule's verdict with its evidence.

docs/protocol.md describes the language of submissions, docs/rules.md the rules.
"""

from __future__ import annotations

import shutil
import time
from dataclasses import replace
from pathlib import Path

from squeeze.artifact.facts import tokenizer_of_artifact
from squeeze.files import read_file, scratch_folder
from squeeze.ledger.submission import MODEL
from squeeze.reporter import SILENT, Reporter
from squeeze.score.audit.adapter import NOTE, Adapter
from squeeze.score.audit.evidence import AuditOptions, Data, load_data
from squeeze.score.audit.report import Audit
from squeeze.score.audit.rules import judge
from squeeze.score.audit.runs import gather
from squeeze.score.audit.submission import load_submission
from squeeze.score.box.sandbox import Limits
from squeeze.score.identity import named_tokenizers, tokenizer_notes
from squeeze.score.overlap import find_overlap
from squeeze.train.data.shards import read_shard, read_shards

__all__ = ["Adapter", "Audit", "AuditOptions", "Data", "Limits", "audit", "load_data"]


def audit(
    submission: Path,
    data: Data,
    options: AuditOptions | None = None,
    reporter: Reporter = SILENT,
) -> Audit:
    """Audit a folder or a bare .sqz artifact on a validation span (see `load_data`).

    Raises SqueezeError when there is nothing to run, BadData for another tokenizer than that of model
    and data; whatever a submission does is a verdict.
    """
    start = time.perf_counter()
    options = options or AuditOptions()
    adapter = options.adapter
    with scratch_folder("squeeze-artifact-") as folder:
        if submission.is_file():
            name = MODEL if adapter is None else submission.name
            adapter = adapter and replace(adapter, weights=name)
            shutil.copy(submission, folder / name)
            submission = folder
        loaded = load_submission(submission, options.serve_options, adapter)
        artifact = loaded.folder / MODEL
        model = tokenizer_of_artifact(read_file(artifact)) if MODEL in loaded.files else None
        named = named_tokenizers(model, data.shards)
        notes = [*tokenizer_notes(data.digest, named, options.other_tokenizer), *data.notes]
        notes += [] if adapter is None else [NOTE]
        evidence = gather(loaded, data, options, reporter)
        notes += evidence.padding
    if options.train_data:
        validation, training = read_shards(list(data.shards)), map(read_shard, options.train_data)
        with reporter.stage("training shards", len(options.train_data), "shards") as stage:
            evidence.overlap = find_overlap(validation, training, evidence.data.bos, stage)
    return Audit(evidence, judge(evidence), time.perf_counter() - start, tuple(notes))
