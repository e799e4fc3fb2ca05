"""Runs of a submission in fresh boxes, each of which holds no more than it needs.

1. distributions of the span, and of spans with tokens changed; 2. predictions with the text after them
withheld; 3. twice its own report; 4. its report again, on spans with a few tokens
changed, and on text that holds the pieces which the span lacks. Only
the last two boxes hold text. Runs 1, 3 and 4 open with the same short request, so their first two
answers have the same history.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path, PurePath

import numpy as np

from squeeze.errors import BadData
from squeeze.files import scratch_folder
from squeeze.ledger.submission import is_paper
from squeeze.reporter import SILENT, Reporter
from squeeze.score.audit.client import Hello, Reported, Session, SubmissionFailed, Tokens
from squeeze.score.audit.evidence import (
    PATCH,
    AuditOptions,
    Counted,
    Data,
    Evidence,
    Patched,
)
from squeeze.score.audit.pieces import texts_of_pieces
from squeeze.score.audit.probe import SHORT, altered, flip_documents, flip_future, moved, sweep
from squeeze.score.audit.submission import Submission
from squeeze.score.audit.withheld import ask_withheld, draw_checks
from squeeze.score.box.sandbox import Box, isolation
from squeeze.score.padding import check_pieces
from squeeze.train.data.shards import write_shard

LONG = 512  # tokens of a flip across updates, at least
TARGETS_PER_LOSS = 2  # a report may be twice too long and still be read
Run = Callable[[Evidence, Session, Reporter], None]
RUNS = 4
ATTEMPTS = 3  # each with the papers that the one before tried to open


def gather(
    submission: Submission, data: Data, options: AuditOptions, reporter: Reporter = SILENT
) -> Evidence:
    """Run a submission and return what was observed.

    A submission that fails is evidence too and raises nothing.
    """
    left_out = {
        name for name in submission.files if is_paper(name) and not _named(submission, name)
    }
    for _ in range(ATTEMPTS):
        evidence = _attempt(submission, data, options, frozenset(left_out), reporter)
        tried = left_out & {
            name for folder in evidence.folders for name in _below(evidence, folder)
        }
        # papers that run time needs come along, and count; without the hook everything counts
        needed = tried if evidence.watched else set(left_out)
        if evidence.failure is None or not needed:
            break
        left_out -= needed
    return evidence


def _named(submission: Submission, name: str) -> bool:
    """Return whether the command names a file."""
    return any(PurePath(name).name in part for part in submission.command)


def _below(evidence: Evidence, folder: str) -> Iterator[str]:
    """Yield the names, relative to a folder, of the files in it that were opened or tried."""
    for path in evidence.opened:
        if path.startswith(folder + "/"):
            yield path[len(folder) + 1 :]


def _attempt(
    submission: Submission,
    data: Data,
    options: AuditOptions,
    left_out: frozenset[str],
    reporter: Reporter,
) -> Evidence:
    """Run a submission without the files that are left out, and return what was observed."""
    evidence = Evidence(submission, data, isolation(), options, left_out=left_out)
    evidence.watched = True
    with (
        scratch_folder("squeeze-span-") as folder,
        reporter.stage("fresh processes", RUNS, "runs") as processes,
    ):
        for name, run, inputs in _runs(evidence, folder):
            try:
                with _session(evidence, inputs) as session:
                    run(evidence, session, processes)
                processes.advance()
            except SubmissionFailed as error:
                evidence.failure = f"{name}: {error}"
                break
    return evidence


def _runs(evidence: Evidence, folder: Path) -> Iterator[tuple[str, Run, dict[str, Path]]]:
    """Yield name, function and inputs of each run; no text is on disk before a run needs it."""
    yield "distributions", _run_probes, {}
    yield "withheld text", _run_withheld, {}
    files = _input_files(folder, evidence.data, evidence.options.seed)
    yield "report", _run_report, files
    yield "patched reports", _run_patched, files


def _patches(data: Data) -> list[int]:
    """Return where patches start: early, where a warm-up batch may lie, and at the end.

    A second pass over the text would have read both.
    """
    count = len(data.span)
    return [max(2, count // 16), max(3, count - 1 - PATCH)]


def _input_files(folder: Path, data: Data, seed: int) -> dict[str, Path]:
    """Write the span, its patched copies and the tokenizer; return them by name."""
    spans = {"span.bin": data.span}
    for start in _patches(data):
        at = np.arange(len(data.span))
        marked = (at >= start) & (at < start + PATCH)
        spans[f"patched-{start}.bin"] = altered(data.span, marked, data.bos, seed)
    for number, (tokens, _) in enumerate(texts_of_pieces(data, seed)):
        spans[f"pieces-{number}.bin"] = tokens
    files = {"tokenizer.model": data.tokenizer}
    for name, tokens in spans.items():
        files[name] = folder / name
        write_shard(files[name], tokens)
    return files


@contextlib.contextmanager
def _session(evidence: Evidence, files: dict[str, Path]) -> Iterator[Session]:
    """Open a session with a fresh process, and note in the end what it touched."""
    submission = evidence.submission
    box = Box(
        submission.folder,
        submission.command,
        evidence.options.limits,
        evidence.isolation,
        {**files, **submission.inputs},
        submission.shown,
        submission.trusted,
        left_out=evidence.left_out,
    )
    with box:
        try:
            session = Session(box, len(evidence.data.span) - 1)
            if evidence.hello not in (None, session.hello):
                raise SubmissionFailed("hello changed from one run to the next")
            evidence.hello = session.hello
            evidence.padding = _padding(session.hello, evidence.data)
            evidence.data = replace(evidence.data, bos=session.hello.bos)
            yield session
        except ValueError as error:  # a shape or a number the checks above let through
            raise SubmissionFailed(f"answers make no sense: {error}") from None
        finally:
            box.close()
            evidence.watched &= bool(box.records("start"))
            evidence.folders.append(box.working_folder)
            for kind, name in (("opened", "open"), ("network", "network"), ("programs", "program")):
                records = [*getattr(evidence, kind), *box.records(name)]
                setattr(evidence, kind, list(dict.fromkeys(records)))


def _padding(hello: Hello, data: Data) -> list[str]:
    """Return a note on outputs beyond the tokenizer's pieces. Raises SubmissionFailed for too many."""
    try:
        return check_pieces(hello.vocab_size, len(data.table.base))
    except BadData as error:
        raise SubmissionFailed(str(error)) from None


def _head(evidence: Evidence, hello: Hello) -> Tokens:
    count = SHORT if hello.stateful else min(SHORT, hello.window)
    return evidence.data.span[: min(count, len(evidence.data.span) - 1)]


def _report(evidence: Evidence, session: Session, name: str = "span.bin") -> Reported:
    most = TARGETS_PER_LOSS * len(evidence.data.span)
    return session.report(name, "tokenizer.model", most, finite=not name.startswith("pieces"))


def _run_probes(evidence: Evidence, session: Session, reporter: Reporter) -> None:
    data, hello, seed = evidence.data, session.hello, evidence.options.seed
    head = _head(evidence, hello)
    evidence.first_rows = session.score(head)
    with reporter.stage("distributions", len(data.span) - 1, "targets") as stage:
        evidence.sweep = sweep(session, data.span, data.bos, stage)
    evidence.replay_moved = moved(evidence.first_rows, session.score(head))[0]
    length = min(SHORT, max(2, hello.chunk - 1)) if hello.stateful else hello.window
    evidence.futures = flip_future(session, data.span, data.bos, length, seed)
    if hello.stateful:
        length = max(3 * hello.chunk, LONG)  # longer than declared: a declaration may be wrong
        evidence.updates = flip_future(session, data.span, data.bos, length, seed + 1)
    if hello.isolated:
        evidence.documents = flip_documents(session, data.span, data.bos)


def _run_withheld(evidence: Evidence, session: Session, reporter: Reporter) -> None:
    data, options = evidence.data, evidence.options
    checks = draw_checks(data.span, data.bos, options.checks, options.seed)
    total = len(np.union1d(checks.drawn, checks.rare))
    with reporter.stage("withheld text", total, "targets") as stage:
        evidence.withheld = ask_withheld(
            session, data.span, data.bos, checks, options.check_seconds, stage
        )


def _run_report(evidence: Evidence, session: Session, reporter: Reporter) -> None:
    assert evidence.first_rows is not None
    rows = session.score(_head(evidence, session.hello))
    evidence.first_moved = moved(evidence.first_rows, rows)[0]
    with reporter.stage("report", 2, "reports") as stage:
        evidence.report = _report(evidence, session)
        stage.advance()
        evidence.again = _report(evidence, session)
        stage.advance()


def _run_patched(evidence: Evidence, session: Session, reporter: Reporter) -> None:
    session.score(_head(evidence, session.hello))
    patches = _patches(evidence.data)
    texts = texts_of_pieces(evidence.data, evidence.options.seed)
    with reporter.stage("patched reports", 1 + len(patches) + len(texts), "reports") as stage:
        evidence.other = _report(evidence, session)
        stage.advance()
        for start in patches if len(evidence.other.losses) else ():
            report = _report(evidence, session, f"patched-{start}.bin")
            evidence.patched.append(Patched(start, report))
            stage.advance()
        for number, (tokens, added) in enumerate(texts):
            report = _report(evidence, session, f"pieces-{number}.bin")
            evidence.pieces.append(Counted(tokens, added, report))
            stage.advance()
