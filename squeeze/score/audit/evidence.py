"""Three runs of a submission in fresh boxes, and everything that the rules judge in them.

1. twice its own report on one span; 2. the protocol's distributions of the span, and flips; 3. its
report again, and on spans with a few tokens changed. Each run opens with the same short request, so the
first two answers of runs 1 and 3 have the same history.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from squeeze.errors import SqueezeError
from squeeze.files import scratch_folder
from squeeze.reporter import SILENT, Reporter
from squeeze.score.audit.client import (
    Float32,
    Hello,
    Reported,
    Session,
    SubmissionFailed,
    Tokens,
)
from squeeze.score.audit.probe import (
    SHORT,
    Flip,
    Sweep,
    altered,
    flip_documents,
    flip_future,
    moved,
    sweep,
)
from squeeze.score.audit.sandbox import Box, Isolation, Limits, isolation
from squeeze.score.audit.submission import Submission
from squeeze.score.official import official_set
from squeeze.score.overlap import Overlap
from squeeze.score.tokenizer import ByteTable, Tokenizer, check_vocab
from squeeze.train.data.shards import read_shards, write_shard
from squeeze.train.data.text import BOS

PATCH = 4  # tokens changed in a patched report
LONG = 512  # tokens of a flip across updates, at least
TARGETS_PER_LOSS = 2  # a report may be twice too long and still be read


@dataclass(frozen=True)
class Data:
    """The validation span that a submission is run on.

    span: uint16 [n], the first n tokens of the data
    table: bytes of its tokens
    bos: token that starts a document
    tokenizer: file of the tokenizer
    shards: files of the whole data
    available: targets of the whole data
    total_bytes: bytes of their text
    digest: SHA-256 of the tokenizer
    """

    span: Tokens
    table: ByteTable
    bos: int
    tokenizer: Path
    shards: tuple[Path, ...]
    available: int
    total_bytes: int
    digest: str = ""

    def scored(self, hello: Hello) -> npt.NDArray[np.int64]:
        """Return the indices of the targets (target i is span[i + 1]) that a whole score has."""
        targets = np.arange(len(self.span) - 1)
        return targets if hello.scores_bos else targets[self.span[1:] != self.bos]


@dataclass(frozen=True)
class AuditOptions:
    """Choices of an audit.

    train_data: shards that are searched for the documents of the validation data
    limits: of the box
    byte_limit: of the files that count
    serve_options: arguments of `python -m squeeze.score.serving.serve`, for a bare artifact
    seed: places the changes of the text
    other_tokenizer: take another tokenizer than that of model and data; the audit's notes say so
    """

    train_data: tuple[Path, ...] = ()
    limits: Limits = field(default_factory=Limits)
    byte_limit: int = 16_000_000
    serve_options: tuple[str, ...] = ()
    seed: int = 0
    other_tokenizer: bool = False


@dataclass(frozen=True)
class Patched:
    """A report on the span with tokens [start : start + PATCH] changed."""

    start: int
    report: Reported


@dataclass
class Evidence:
    """Everything observed; fields that are None were not reached, and `failure` says why."""

    submission: Submission
    data: Data
    isolation: Isolation
    options: AuditOptions
    failure: str | None = None
    hello: Hello | None = None
    report: Reported | None = None
    again: Reported | None = None  # the same process, asked again
    other: Reported | None = None  # another process, same history
    patched: list[Patched] = field(default_factory=list)
    sweep: Sweep | None = None
    first_rows: Float32 | None = None  # answer to the first request of the first process
    first_moved: float | None = None  # against another process
    replay_moved: float | None = None  # the same rows asked again later in one process
    futures: list[Flip] = field(default_factory=list)  # requests too short for an update
    updates: list[Flip] = field(default_factory=list)  # requests across updates
    documents: list[Flip] = field(default_factory=list)
    watched: bool = False  # the hook was loaded in every run
    opened: list[str] = field(default_factory=list)
    network: list[str] = field(default_factory=list)
    programs: list[str] = field(default_factory=list)
    folders: list[str] = field(default_factory=list)  # private copies, as the submission saw them
    overlap: Overlap | None = None


def gather(
    submission: Submission, data: Data, options: AuditOptions, reporter: Reporter = SILENT
) -> Evidence:
    """Run a submission three times and return what was observed.

    A submission that fails is evidence too and raises nothing.
    """
    evidence = Evidence(submission, data, isolation(), options)
    evidence.watched = True
    runs = {"report": _run_report, "distributions": _run_probes, "patched reports": _run_patched}
    with scratch_folder("squeeze-span-") as folder:
        files = _input_files(folder, data, options.seed)
        for name, run in runs.items():
            try:
                with reporter.stage(name), _session(evidence, files) as session:
                    run(evidence, session)
            except SubmissionFailed as error:
                evidence.failure = f"{name}: {error}"
                break
    return evidence


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
        files,
        submission.trusted,
    )
    with box:
        try:
            session = Session(box, len(evidence.data.span) - 1)
            if evidence.hello not in (None, session.hello):
                raise SubmissionFailed("hello changed from one run to the next")
            evidence.hello = session.hello
            if len(evidence.data.table.base) != session.hello.vocab_size:
                raise SubmissionFailed(
                    "vocabulary",
                    expected=f"the tokenizer's {len(evidence.data.table.base)} pieces",
                    found=session.hello.vocab_size,
                )
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


def _head(evidence: Evidence, hello: Hello) -> Tokens:
    count = SHORT if hello.stateful else min(SHORT, hello.window)
    return evidence.data.span[: min(count, len(evidence.data.span) - 1)]


def _report(evidence: Evidence, session: Session, name: str = "span.bin") -> Reported:
    return session.report(name, "tokenizer.model", TARGETS_PER_LOSS * len(evidence.data.span))


def _run_report(evidence: Evidence, session: Session) -> None:
    evidence.first_rows = session.score(_head(evidence, session.hello))
    evidence.report = _report(evidence, session)
    evidence.again = _report(evidence, session)


def _run_probes(evidence: Evidence, session: Session) -> None:
    data, hello, seed = evidence.data, session.hello, evidence.options.seed
    head = _head(evidence, hello)
    rows = session.score(head)
    assert evidence.first_rows is not None
    evidence.first_moved = moved(evidence.first_rows, rows)[0]
    evidence.sweep = sweep(session, data.span, data.bos)
    evidence.replay_moved = moved(rows, session.score(head))[0]
    length = min(SHORT, max(2, hello.chunk - 1)) if hello.stateful else hello.window
    evidence.futures = flip_future(session, data.span, data.bos, length, seed)
    if hello.stateful:
        length = max(3 * hello.chunk, LONG)  # longer than declared: a declaration may be wrong
        evidence.updates = flip_future(session, data.span, data.bos, length, seed + 1)
    if hello.isolated:
        evidence.documents = flip_documents(session, data.span, data.bos)


def _run_patched(evidence: Evidence, session: Session) -> None:
    session.score(_head(evidence, session.hello))
    evidence.other = _report(evidence, session)
    if len(evidence.other.losses):
        for start in _patches(evidence.data):
            report = _report(evidence, session, f"patched-{start}.bin")
            evidence.patched.append(Patched(start, report))


def load_data(paths: Sequence[Path], tokenizer: Path, targets: int) -> Data:
    """Read the first `targets` targets of the shards, and count what all of them hold.

    Of an official set only the part counts that its scores are over (`squeeze.score.official`).

    Raises BadData for files that are no shards or tokens outside the vocabulary, SqueezeError for too
    few tokens.
    """
    pieces = Tokenizer(tokenizer)
    tokens = read_shards(list(paths))
    check_vocab(tokens, pieces.vocab_size)
    if len(tokens) < 64:
        raise SqueezeError("too little to audit on", expected="≥ 64 tokens", found=len(tokens))
    official = official_set(tokens, pieces.table)
    if official is not None:
        tokens = tokens[: official[1] + 1]
    total = pieces.table.count(tokens, np.ones(len(tokens) - 1, np.bool_))
    pieces.check_bytes(tokens[1 : targets + 1])
    return Data(
        span=tokens[: targets + 1],
        table=pieces.table,
        bos=BOS,
        tokenizer=tokenizer,
        shards=tuple(paths),
        available=len(tokens) - 1,
        total_bytes=total,
        digest=pieces.sha256,
    )
