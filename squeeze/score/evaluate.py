"""A whole evaluation: files in, a score out, with everything needed to derive it again."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, cast

from squeeze.errors import BadConfig, BadData
from squeeze.files import file_sha256, sha256
from squeeze.ranks.connect import resolve_device
from squeeze.ranks.group import Ranks
from squeeze.reporter import SILENT, Reporter
from squeeze.score.identity import named_tokenizers, tokenizer_notes
from squeeze.score.modes import Mode, Scoring
from squeeze.score.official import official_set
from squeeze.score.padding import check_pieces, padded_table
from squeeze.score.plan import Documents, document_spans, sample_documents
from squeeze.score.provenance import code_sha256, device_facts, versions
from squeeze.score.report import DocumentCounts, EvalReport, Hashes
from squeeze.score.texts import TextTokenizer
from squeeze.score.tokenizer import Text, Tokenizer, Tokens, check_vocab, textless
from squeeze.score.window import Score
from squeeze.subject.precision import PRECISIONS, computing_in
from squeeze.subject.source import ModelSource
from squeeze.subject.subject import Subject
from squeeze.subject.whole import NO_TOKEN, WholeForward
from squeeze.subject.workpiece import Model, Workpiece
from squeeze.train.data.shards import read_shards, shard_length
from squeeze.train.model.gpt import GPT


@dataclass(frozen=True)
class EvalOptions:
    """Choices of an evaluation.

    mode: how to score
    tokens: only the first so many targets
    documents: only so many whole documents, drawn with `seed`
    batch: windows of a forward pass; None: as many as fit
    device: name of a torch device; None: cuda, else cpu
    precision: a name of PRECISIONS
    architecture: fields of ModelConfig that the model's file does not hold
    script: FILE.py:NAME of the model that runs the weights; None: one of this project
    shim: whether modules that the script lacks are replaced
    other_tokenizer: take another tokenizer than that of model and data; the notes say so
    """

    mode: Mode = field(default_factory=Mode)
    tokens: int | None = None
    documents: int | None = None
    seed: int = 0
    batch: int | None = None
    device: str | None = None
    precision: str = "fp32"
    architecture: Mapping[str, Any] = field(default_factory=dict)
    script: str | None = None
    shim: bool = False
    other_tokenizer: bool = False

    def __post_init__(self) -> None:
        if self.device is not None and str(self.device).partition(":")[0] == "meta":
            raise BadConfig("device", expected="one that computes values", found=self.device)
        if self.precision not in PRECISIONS:
            raise BadConfig("precision", expected=", ".join(PRECISIONS), found=self.precision)
        if self.documents is not None and not self.mode.facts.by_document:
            raise BadConfig(
                f"{self.mode.name} scoring reads one stream", found="a number of documents"
            )
        if self.batch is not None and self.mode.facts.learns:
            raise BadConfig(f"{self.mode.name} scoring", found="--batch", fix="Use --ttt batch=N.")


def evaluate(
    model: Path,
    tokenizer: Path,
    data: Sequence[Path],
    options: EvalOptions | None = None,
    reporter: Reporter = SILENT,
) -> EvalReport:
    """Score a checkpoint or artifact on token shards, or on text files.

    tokenizer: a sentencepiece model for shards, a folder of transformers for text
    reporter: counts the targets of this rank

    Under torch.distributed the work is dealt to the ranks and every rank gets the report.

    Raises BadData for files that are no shards, data shorter than `tokens` or of another vocabulary, and
    the errors of `load_model` and of the mode.
    """
    evaluation = _Evaluation(tokenizer, options)
    evaluation.read_files(data)
    given = evaluation.options
    piece = ModelSource(model, given.script, given.shim, given.architecture).open()
    return evaluation.report(str(model), piece, reporter)


def evaluate_tokens(
    model: Model,
    tokenizer: str | os.PathLike[str],
    tokens: Tokens,
    options: EvalOptions | None = None,
) -> EvalReport:
    """Score a model in memory on tokens in memory, uint16 [n]; otherwise as `evaluate`."""
    evaluation = _Evaluation(tokenizer, options)
    if isinstance(evaluation.pieces, TextTokenizer):
        raise BadConfig("scoring of tokens", expected="a sentencepiece model", found="a folder")
    evaluation.take(tokens, {"tokens": sha256(tokens.tobytes())})
    piece = Workpiece.of(model)
    return evaluation.report(piece.format, piece, SILENT)


class _Evaluation:
    """An evaluation under way.

    tokens: uint16 [n], of which all but the first are targets
    official: name of the official set that they are, or None
    available: targets that the data holds, scored or not
    hashes: of the data, hexadecimal, by name
    shards: files of the data, none for tokens in memory
    seconds: by phase
    """

    def __init__(self, tokenizer: str | os.PathLike[str], options: EvalOptions | None) -> None:
        self.options = options or EvalOptions()
        self.seconds: dict[str, float] = {}
        self.shards: tuple[Path, ...] = ()
        self._last = time.perf_counter()
        folder = Path(tokenizer).is_dir()
        self.pieces: Any = TextTokenizer(tokenizer) if folder else Tokenizer(tokenizer)
        self.table: Any = getattr(self.pieces, "table", None)

    def read_files(self, data: Sequence[Path]) -> None:
        """Take the shards as far as they are scored, or text."""
        if isinstance(self.pieces, TextTokenizer):
            text, self.table, hashes = self.pieces.read(data)
            self.take(cast(Any, text), hashes)
            return
        tokens = self.options.tokens
        available = sum(shard_length(path) for path in data) - 1
        self._check_length(available)
        span = read_shards(list(data), None if tokens is None else tokens + 1)
        self.take(span, {str(path): file_sha256(path) for path in data})
        self.shards = tuple(data)
        if self.official is None:
            self.available = available

    def take(self, tokens: Tokens, hashes: dict[str, str]) -> None:
        """Take the tokens that the options ask for, cut to the official set where they begin one."""
        self.tokens, self.hashes, self.available = tokens, hashes, len(tokens) - 1
        self.official: str | None = None
        count, documents = self.options.tokens, self.options.documents
        self._check_length(self.available)
        if count is not None:
            self.tokens = tokens[: count + 1]
        elif documents is None and (official := self._official(tokens)):
            self.official, self.available = official
            self.tokens = tokens[: self.available + 1]
        self._lap("data")

    def report(self, name: str, piece: Workpiece, reporter: Reporter) -> EvalReport:
        """Score a loaded model and return the report, whose `model` is `name`."""
        options, mode, tokens = self.options, self.options.mode, self.tokens
        named = named_tokenizers(piece.tokenizer, self.shards)
        identity = tokenizer_notes(self.pieces.sha256, named, options.other_tokenizer)
        subject = piece.subject
        device = resolve_device(options.device)
        subject.module.to(device)
        self._lap("load")
        documents = _documents(tokens, NO_TOKEN if subject.bos is None else subject.bos, options)
        scoring = scoring_of(mode, subject)
        padding = []
        if isinstance(self.pieces, Tokenizer) and not isinstance(subject.module, GPT):
            padding = check_pieces(subject.vocab_size, self.pieces.vocab_size)
            check_vocab(tokens, self.pieces.vocab_size)
        table = padded_table(self.table, subject.vocab_size) if padding else self.table
        if (
            mode.facts.by_document
            and isinstance(self.pieces, Tokenizer)
            and subject.bos is not None
        ):
            identity += self.pieces.start_notes(subject.bos)
            table = textless(table, subject.bos)
        text = Text(tokens, table)
        if mode.facts.by_document and getattr(self.pieces, "bos", subject.bos) != subject.bos:
            raise BadConfig(
                f"{mode.name} scoring",
                expected=f"a tokenizer whose texts begin with the model's token {subject.bos}",
                found=self.pieces.bos,
            )
        with computing_in(options.precision, device):
            score, ledger = scoring.score(text, documents, options.batch, reporter)
        self._lap("score")
        checked = score.bytes
        if isinstance(self.pieces, Tokenizer):  # the other one has decoded all of its text
            checked = self.pieces.check_bytes(tokens[1:])
        self._lap("check_bytes")
        return EvalReport(
            model=name,
            bpb=score.bpb,
            nats_per_token=score.nats_per_token,
            nats=score.nats,
            tokens=score.tokens,
            bytes=score.bytes,
            official=self.official,
            partial=score.tokens + score.ends < self.available,
            available_tokens=self.available,
            bytes_checked_against_text=checked,
            mode=mode.name,
            options=asdict(mode.options(subject.length)),
            by_document=_counts(score, documents, options),
            order=None if ledger is None else ledger.check(),
            config=config_of(subject),
            notes=[*piece.notes, *padding, *identity, *self.pieces.notes],
            format=piece.format,
            model_bytes=piece.size,
            sha256=Hashes(piece.sha256, self.pieces.sha256, self.hashes, code_sha256()),
            versions=versions(),
            ranks=Ranks.current().world,
            precision=options.precision,
            **device_facts(subject.device),
            seconds=self.seconds,
        )

    def _official(self, tokens: Tokens) -> tuple[str, int] | None:
        """Return name and targets of the official set that tokens are."""
        return official_set(tokens, self.table) if isinstance(self.pieces, Tokenizer) else None

    def _check_length(self, available: int) -> None:
        """Raise BadData when more targets are asked for than there are."""
        if self.options.tokens is not None and self.options.tokens > available:
            raise BadData(
                "the data is shorter than --tokens",
                expected=f"≤ {available} targets",
                found=self.options.tokens,
            )

    def _lap(self, phase: str) -> None:
        """Record the seconds since the last phase as those of `phase`."""
        now = time.perf_counter()
        self.seconds[phase] = round(now - self._last, 3)
        self._last = now


def scoring_of(mode: Mode, subject: Subject) -> Scoring:
    """Return a mode at work on a subject.

    Raises BadConfig for a mode that trains a model other than this project's GPT, for one that needs
    documents where the subject names no token that begins one, and for a subject without logits.
    """
    if isinstance(subject.module, GPT):
        return mode.scoring(subject.module)
    if subject.hidden:
        raise BadConfig("scoring", expected="logits of the next token", found="hidden states")
    if mode.facts.learns:
        raise BadConfig(
            f"{mode.name} scoring", expected="a model of squeeze's own", found="a script's"
        )
    if mode.facts.by_document and subject.bos is None:
        raise BadConfig(
            f"{mode.name} scoring",
            expected="the token that begins a document",
            fix="Write `bos = 1` in the script; in Python, give bos_id in config.",
        )
    return mode.scoring(cast(Any, WholeForward(subject)))


def config_of(subject: Subject) -> dict[str, Any]:
    """Return what a report says of a model: its configuration, or its identity."""
    if isinstance(subject.module, GPT):
        return asdict(subject.module.config)
    facts = {"vocab_size": subject.vocab_size, "seq_len": subject.length, "bos_id": subject.bos}
    return {**subject.identity, **facts}


def _documents(tokens: Tokens, bos: int, options: EvalOptions) -> Documents:
    """Return all documents of the tokens, or those that are drawn."""
    if options.documents is None:
        return document_spans(tokens, bos)
    documents = sample_documents(tokens, bos, options.documents, options.seed)
    if not len(documents[0]):
        raise BadData("the data holds no whole document", expected=f"two BOS, token {bos}")
    return documents


def _counts(score: Score, documents: Documents, options: EvalOptions) -> DocumentCounts | None:
    """Return the counts of a score by document; None for one stream."""
    if not options.mode.facts.by_document:
        return None
    return DocumentCounts(
        documents=len(documents[0]),
        documents_seed=None if options.documents is None else options.seed,
        ends=score.ends,
        end_nats=score.end_nats,
        bpb_with_ends=score.bpb_with_ends,
    )
