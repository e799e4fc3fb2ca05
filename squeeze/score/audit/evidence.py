"""Everything that the rules judge in a submission: the span, the choices of an audit, observations."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from squeeze.errors import SqueezeError
from squeeze.score.audit.adapter import Adapter
from squeeze.score.audit.client import Float32, Hello, Reported, Tokens
from squeeze.score.audit.probe import Flip, Sweep
from squeeze.score.audit.submission import Submission
from squeeze.score.audit.withheld import Withheld
from squeeze.score.box.sandbox import Isolation, Limits
from squeeze.score.official import official_set
from squeeze.score.overlap import Overlap
from squeeze.score.tokenizer import ByteTable, Tokenizer, check_vocab
from squeeze.train.data.shards import read_shards
from squeeze.train.data.text import BOS

PATCH = 4  # tokens changed in a patched report
CHECKS = 2048  # targets whose following text is withheld
CHECK_SECONDS = 60.0


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
    notes: sentences on text that it does not give back
    """

    span: Tokens
    table: ByteTable
    bos: int
    tokenizer: Path
    shards: tuple[Path, ...]
    available: int
    total_bytes: int
    digest: str = ""
    notes: tuple[str, ...] = ()

    def scored(self, hello: Hello, tokens: Tokens | None = None) -> npt.NDArray[np.int64]:
        """Return the indices of the targets (target i is tokens[i + 1]) that a whole score has.

        tokens: the span unless given
        """
        tokens = self.span if tokens is None else tokens
        targets = np.arange(len(tokens) - 1)
        return targets if hello.scores_bos else targets[tokens[1:] != self.bos]


@dataclass(frozen=True)
class AuditOptions:
    """Choices of an audit.

    train_data: shards that are searched for the documents of the validation data
    limits: of the box
    byte_limit: of the files that count
    serve_options: arguments of `python -m squeeze.score.serving.serve`, where squeeze serves the model
    adapter: script that builds the model of a folder that does not speak the protocol
    checks: targets that are predicted with the text after them withheld
    check_seconds: when these would take longer, fewer are checked
    seed: draws them, and places the changes of the text; drawn when the audit begins, so that no
        submission can have been made for it
    other_tokenizer: take another tokenizer than that of model and data; the audit's notes say so
    """

    train_data: tuple[Path, ...] = ()
    limits: Limits = field(default_factory=Limits)
    byte_limit: int = 16_000_000
    serve_options: tuple[str, ...] = ()
    adapter: Adapter | None = None
    checks: int = CHECKS
    check_seconds: float = CHECK_SECONDS
    seed: int = field(default_factory=lambda: secrets.randbits(31))
    other_tokenizer: bool = False


@dataclass(frozen=True)
class Patched:
    """A report on the span with tokens [start : start + PATCH] changed."""

    start: int
    report: Reported


@dataclass(frozen=True)
class Counted:
    """A report on tokens among which are pieces that the span does not hold.

    added: number of those pieces
    """

    tokens: Tokens
    added: int
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
    padding: list[str] = field(default_factory=list)  # a note on outputs that have no piece
    report: Reported | None = None
    again: Reported | None = None  # the same process, asked again
    other: Reported | None = None  # another process, same history
    patched: list[Patched] = field(default_factory=list)
    sweep: Sweep | None = None
    withheld: Withheld | None = None
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
    left_out: frozenset[str] = frozenset()  # papers that were in no box
    pieces: list[Counted] = field(default_factory=list)
    overlap: Overlap | None = None


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
        notes=tuple(pieces.notes),
    )
