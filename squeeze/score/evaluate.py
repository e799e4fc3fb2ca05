"""A whole evaluation: files in, a score out, with everything needed to derive it again."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from squeeze.checkpoint.read import LoadedModel, load_model
from squeeze.errors import BadConfig, BadData
from squeeze.files import sha256
from squeeze.ranks.group import Ranks
from squeeze.score.modes import Mode, Progress
from squeeze.score.official import official_set
from squeeze.score.plan import Documents, document_spans, sample_documents
from squeeze.score.provenance import code_sha256, device_facts, file_sha256, versions
from squeeze.score.report import DocumentCounts, EvalReport, Hashes
from squeeze.score.tokenizer import Text, Tokenizer, Tokens
from squeeze.score.window import Score
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
    architecture: fields of ModelConfig that the model's file does not hold
    """

    mode: Mode = field(default_factory=Mode)
    tokens: int | None = None
    documents: int | None = None
    seed: int = 0
    batch: int | None = None
    device: str | None = None
    architecture: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.documents is not None and not self.mode.facts.by_document:
            raise BadConfig(
                f"{self.mode.name} scoring reads one stream", found="a number of documents"
            )
        if self.batch is not None and self.mode.facts.learns:
            raise BadConfig(f"{self.mode.name} scoring", found="--batch", fix="Use --ttt batch=N.")


@dataclass(frozen=True)
class _Scored:
    """Tokens to score: uint16 [n], of which all but the first are targets.

    official: name of the official set that they are, or None
    available: targets that the data has, scored or not
    sha256: of the data, hexadecimal, by name
    """

    tokens: Tokens
    official: str | None
    available: int
    sha256: dict[str, str]


def evaluate(
    model: Path,
    tokenizer: Path,
    data: Sequence[Path],
    options: EvalOptions = EvalOptions(),
    on_progress: Progress | None = None,
) -> EvalReport:
    """Score a checkpoint or artifact on token shards.

    on_progress: called with this rank's targets that are done, and all of them

    Under torch.distributed the work is dealt to the ranks and every rank gets the report.

    Raises BadData for data that is no such data, shorter than `tokens` or of another vocabulary, and
    the errors of `load_model` and of the mode.
    """
    clock = _Laps()
    pieces = Tokenizer(tokenizer)
    scored = _read_data(data, pieces, options)
    clock.lap("data")
    loaded = load_model(model, **options.architecture)
    return _report(str(model), loaded, pieces, scored, options, clock, on_progress)


def evaluate_tokens(
    loaded: LoadedModel,
    tokenizer: Path,
    tokens: Tokens,
    options: EvalOptions = EvalOptions(),
    on_progress: Progress | None = None,
) -> EvalReport:
    """Score a model in memory on tokens in memory, uint16 [n]; otherwise as `evaluate`."""
    clock = _Laps()
    pieces = Tokenizer(tokenizer)
    scored = _first_targets(tokens, pieces, options, {"tokens": sha256(tokens.tobytes())})
    clock.lap("data")
    return _report(loaded.source, loaded, pieces, scored, options, clock, on_progress)


def _report(
    name: str,
    loaded: LoadedModel,
    pieces: Tokenizer,
    scored: _Scored,
    options: EvalOptions,
    clock: _Laps,
    on_progress: Progress | None,
) -> EvalReport:
    """Score a loaded model and return the report, whose `model` is `name`."""
    tokens = scored.tokens
    gpt = GPT.from_tensors(loaded.config, loaded.tensors).to(resolve_device(options.device))
    clock.lap("load")
    documents = _documents(tokens, loaded.config.bos_id, options)
    mode, text = options.mode, Text(tokens, pieces.table)
    score, ledger = mode.scoring(gpt).score(text, documents, options.batch, on_progress)
    clock.lap("score")
    checked = pieces.check_bytes(tokens[1:])
    clock.lap("check_bytes")
    return EvalReport(
        model=name,
        bpb=score.bpb,
        nats_per_token=score.nats_per_token,
        nats=score.nats,
        tokens=score.tokens,
        bytes=score.bytes,
        official=scored.official,
        partial=score.tokens + score.ends < scored.available,
        available_tokens=scored.available,
        bytes_checked_against_text=checked,
        mode=mode.name,
        options=asdict(mode.options(loaded.config.seq_len)),
        by_document=_counts(score, documents, options),
        order=None if ledger is None else ledger.check(),
        config=asdict(loaded.config),
        notes=loaded.notes,
        format=loaded.source,
        model_bytes=loaded.size,
        sha256=Hashes(loaded.sha256, pieces.sha256, scored.sha256, code_sha256()),
        versions=versions(),
        ranks=Ranks.current().world,
        **device_facts(next(gpt.parameters()).device),
        seconds=clock.laps,
    )


def _read_data(data: Sequence[Path], pieces: Tokenizer, options: EvalOptions) -> _Scored:
    """Read the shards as far as they are scored."""
    available = sum(shard_length(path) for path in data) - 1
    _check_length(options, available)
    tokens = read_shards(list(data), None if options.tokens is None else options.tokens + 1)
    hashes = {str(path): file_sha256(path) for path in data}
    scored = _first_targets(tokens, pieces, options, hashes)
    return scored if scored.official else replace(scored, available=available)


def _first_targets(
    tokens: Tokens, pieces: Tokenizer, options: EvalOptions, hashes: dict[str, str]
) -> _Scored:
    """Return the tokens that the options ask for, cut to the official set where they begin one."""
    available = len(tokens) - 1
    _check_length(options, available)
    if options.tokens is not None or options.documents is not None:
        end = None if options.tokens is None else options.tokens + 1
        return _Scored(tokens[:end], None, available, hashes)
    official = official_set(tokens, pieces.table)
    if official is None:
        return _Scored(tokens, None, available, hashes)
    name, targets = official
    return _Scored(tokens[: targets + 1], name, targets, hashes)


def _check_length(options: EvalOptions, available: int) -> None:
    """Raise BadData when more targets are asked for than there are."""
    if options.tokens is not None and options.tokens > available:
        raise BadData(
            "the data is shorter than --tokens",
            expected=f"≤ {available} targets",
            found=options.tokens,
        )


def _documents(tokens: Tokens, bos: int, options: EvalOptions) -> Documents:
    """Return all documents of the tokens, or those that are drawn."""
    if options.documents is None:
        return document_spans(tokens, bos)
    documents = sample_documents(tokens, bos, options.documents, options.seed)
    if not len(documents[0]):
        raise BadData("the data holds no whole document", expected=f"two BOS, token {bos}")
    return documents


def _counts(score: Score, documents: Documents, options: EvalOptions) -> DocumentCounts | None:
    """Return what a score by document has besides; None for one stream."""
    if not options.mode.facts.by_document:
        return None
    return DocumentCounts(
        documents=len(documents[0]),
        documents_seed=None if options.documents is None else options.seed,
        ends=score.ends,
        end_nats=score.end_nats,
        bpb_with_ends=score.bpb_with_ends,
    )


def resolve_device(name: str | None) -> torch.device:
    """Return the torch device of that name; cuda, else cpu, for None. Raises BadConfig if unusable."""
    if name is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise BadConfig(f"device {name!r} cannot be used", found=str(error)[:100]) from None
    return device


class _Laps:
    """Seconds of each phase of an evaluation, by name."""

    def __init__(self) -> None:
        self.laps: dict[str, float] = {}
        self._last = time.perf_counter()

    def lap(self, phase: str) -> None:
        """End a phase."""
        now = time.perf_counter()
        self.laps[phase] = round(now - self._last, 3)
        self._last = now
