"""Calibration of a loaded model: text, Hessians, output gradients, kept in a folder by content hash.

    calibrated = calibrate(load_model("model.safetensors"), Calibration(tokens=131_072), folder)

An interrupted run resumes: a stage whose key matches is read back, sums of Hessians continue from their
last save. The key covers weights, configuration and every setting that matters.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass, field, fields, replace
from pathlib import Path

from squeeze.calib.statistics.collect import collect
from squeeze.calib.statistics.divergence import Divergence
from squeeze.calib.statistics.fisher import OutputGradients, collect_gradients
from squeeze.calib.statistics.hessian import Hessians
from squeeze.calib.statistics.probed import probed_on
from squeeze.calib.statistics.tapped import TappedModel
from squeeze.calib.taps.layout import Layout
from squeeze.calib.text.generate import TEMPERATURE, NewCache, Tokens
from squeeze.calib.text.sources import (
    TOKENS,
    Corpus,
    RandomTokens,
    SelfGenerated,
    Sequences,
    Source,
    window_length,
)
from squeeze.errors import BadConfig
from squeeze.files import hash_of, make_folder, remove_files, sha256
from squeeze.files.arrays import key_in
from squeeze.ranks.group import Ranks
from squeeze.ranks.kept import kept_by_all
from squeeze.reporter import SILENT, Reporter
from squeeze.subject.copies import check_copies
from squeeze.subject.eager import eager
from squeeze.subject.precision import PRECISIONS
from squeeze.subject.subject import Subject
from squeeze.subject.workpiece import Model, Workpiece
from squeeze.train.data.shards import read_shards
from squeeze.train.model.gpt import GPT

SOURCES = ("self", "shards", "tokens", "random")
COVARIANCE = 4096  # tokens over which the covariance of hidden states is taken
PIECES = 4  # number of the way in which stages are cut into pieces; another way rounds otherwise
GRADIENTS = 2  # number of the way in which gradients are collected
# tokens in all and of a sequence that a model writes by whole forwards
WHOLE_TOKENS, WHOLE_LENGTH = 16_384, 256
# Sequences that a model writes at least, down to so many tokens each: fewer side by side read its
# weights too often, and a text of them costs four times as much (docs/log.md).
SIDE_BY_SIDE, SHORT = 64, 512
LARGE = 16_000_000  # weights; of a larger model a quarter of the tokens takes minutes on two cores


def default_tokens(weights: int, steps: bool = True) -> int:
    """Return the calibration tokens for a model of so many weights where no number is asked for.

    steps: whether the model writes text token by token; otherwise each token costs a whole forward
    """
    if not steps:
        return WHOLE_TOKENS
    return TOKENS if weights <= LARGE else TOKENS // 4


@dataclass(frozen=True)
class Calibration:
    """Text to calibrate on.

    source: "self" (the model writes it), "shards" (real text, the token shards in `data`), "tokens"
        (real text, `ids`) or "random"
    tokens: number of tokens; 0: `default_tokens` of the model, or all of `ids` where they are fewer
    length: tokens of a sequence; 0: the training window, or less where that gives few sequences
    seed: of sampled text, random tokens and the windows of real text
    temperature: of sampled text; 0: TEMPERATURE, or what a preset has instead
    data: paths of token shards
    ids: tokens of real text, uint16 [n]
    precision: of the forwards, a name of `squeeze.subject.precision.PRECISIONS`

    Raises BadConfig for an unknown source, and for data or ids that the source does not use or lacks.
    """

    source: str = "self"
    tokens: int = 0
    length: int = 0
    seed: int = 0
    temperature: float = 0.0
    data: tuple[str, ...] = ()
    ids: Tokens | None = field(default=None, repr=False, compare=False)
    precision: str = "fp32"

    def __post_init__(self) -> None:
        if self.source not in SOURCES:
            raise BadConfig("calibration source", expected=", ".join(SOURCES), found=self.source)
        if self.precision not in PRECISIONS:
            raise BadConfig("precision", expected=", ".join(PRECISIONS), found=self.precision)
        if self.source == "shards" and not self.data:
            raise BadConfig(
                "calibration text shards", found="no shards", fix="Name them with --data."
            )
        if self.source != "shards" and self.data:
            raise BadConfig(
                "shards to calibrate on",
                expected="calibration text shards",
                found=self.source,
                fix="Add --calibration shards, or leave --data out.",
            )
        if (self.source == "tokens") != (self.ids is not None):
            raise BadConfig("calibration ids are for source 'tokens', which needs them")

    def resolved(self, piece: Workpiece) -> Calibration:
        """Return a copy with the number of tokens and the temperature that a model is calibrated on."""
        tokens = self.tokens or default_tokens(piece.weights, piece.subject.step is not None)
        if self.ids is not None and not self.tokens:
            length = self.length_for(piece)
            tokens = min(tokens, max(len(self.ids) // length, 1) * length)
        return replace(self, tokens=tokens, temperature=self.temperature or TEMPERATURE)

    def length_for(self, piece: Workpiece) -> int:
        """Return the tokens of a sequence for a model."""
        if self.length:
            return self.length
        length = window_length(piece.subject.length)
        if self.source != "self":
            return length
        if piece.subject.step is None:
            return min(length, WHOLE_LENGTH)
        return min(length, max(self.tokens // SIDE_BY_SIDE, SHORT))

    def facts(self) -> dict[str, object]:
        """Return every setting by name, with the hash of the ids in their place."""
        facts = {field.name: getattr(self, field.name) for field in fields(self)}
        if self.precision == "fp32":  # as it was before there were others
            del facts["precision"]
        ids = facts.pop("ids")
        return facts if ids is None else {**facts, "ids": sha256(ids.tobytes())}


@dataclass(frozen=True)
class Calibrated:
    """A model with its calibration text, its matrices, and the Hessians and output gradients on it.

    subject: on the device that calibrated it, where costs are measured and what is tuned learns
    """

    subject: Subject
    text: Sequences
    layout: Layout
    divergence: Divergence
    hessians: Hessians
    gradients: OutputGradients


def calibrate(
    model: Model,
    settings: Calibration,
    folder: Path,
    *,
    fresh: bool = False,
    reporter: Reporter = SILENT,
) -> Calibrated:
    """Return a model with its calibration; stages that `folder` holds are read back.

    fresh: start over, whatever the folder holds
    reporter: shown the stages; on the first rank it gets a note for each damaged file, and one for
        those of other weights or settings

    Every rank of a process group must call, and all return the same; the first writes. Raises
    BadCheckpoint for a model whose logits, inputs or gradients are not numbers, BadData for text that
    is too short or not in the model's vocabulary.
    """
    piece = Workpiece.of(model)
    asked, settings, device = settings.tokens, settings.resolved(piece), Ranks.current().device
    subject = piece.subject.computing_in(settings.precision)
    subject.module.to(device)
    if not isinstance(subject.module, GPT):
        check_copies(piece.subject)
    key = content_key(piece, settings)
    make_folder(folder)
    text_file, hessian_file, gradient_file = (
        folder / f"{stage}.safetensors" for stage in ("text", "hessians", "gradients")
    )
    ranks = Ranks.current()
    if fresh and ranks.first:
        remove_files(folder.glob("*.safetensors*"))
    ranks.on_all(True)  # no rank reads a file before the first has removed them
    replaced = _Replacements(reporter)
    with replaced.noted(text_file, key):
        text = kept_by_all(Sequences.load, text_file, key)
        if text is None:
            source = _source(piece, settings, subject.new_cache, reporter)
            with eager():
                text = source.draw(settings.tokens, settings.length_for(piece))
            if ranks.first:
                text.save(text_file, key)
    if asked and text.tokens != asked:
        reporter.note(f"calibrated on {text.tokens:,} tokens: whole sequences of {text.length:,}")
    with replaced.noted(hessian_file, f"{key} {text.digest()}"):
        tapped = probed_on(subject.tapped, text, device)
        hessians = collect(tapped, text, path=hessian_file, key=key, reporter=reporter)
    gradient_key = f"{key}-{GRADIENTS}"
    with replaced.noted(gradient_file, gradient_key):
        divergence = subject.divergence(text.ids[: max(1, COVARIANCE // text.length)])
        gradients = _gradients(tapped, text, divergence, gradient_file, gradient_key, reporter)
    replaced.note_others(folder)
    return Calibrated(piece.subject, text, tapped.layout, divergence, hessians, gradients)


class _Replacements:
    """Notes on the files of stages that were there and were made again, on the first rank.

    A damaged file gets one of its own; those of other weights or settings are named together.
    """

    def __init__(self, reporter: Reporter) -> None:
        self.reporter = reporter if Ranks.current().first else SILENT
        self._others: list[str] = []

    @contextlib.contextmanager
    def noted(self, path: Path, key: str) -> Iterator[None]:
        """Look whether a file is replaced inside; `key` is the one that it has to have."""
        before = path.stat().st_mtime_ns if os.path.isfile(path) else None
        held = None if before is None else key_in(path)
        yield
        if before is None or path.stat().st_mtime_ns == before:
            return
        if held in (None, key):
            self.reporter.note(f"{path} was damaged: made again")
        else:
            self._others.append(path.stem)

    def note_others(self, folder: Path) -> None:
        """Name the files of other weights or settings."""
        if self._others:
            kept = " and ".join(filter(None, [", ".join(self._others[:-1]), self._others[-1]]))
            self.reporter.note(f"{kept} in {folder} were of other weights or settings: made anew")


def _gradients(
    model: TappedModel,
    text: Sequences,
    divergence: Divergence,
    path: Path,
    key: str,
    reporter: Reporter,
) -> OutputGradients:
    """Return the gradients that the file keeps when every rank can read it, else collect them."""
    if not model.layout.matrices:  # then nothing in the model has one
        return OutputGradients({}, {}, 0, text.source)
    kept_gradients = kept_by_all(OutputGradients.load, path, key)
    if kept_gradients is not None:
        return kept_gradients
    gradients = collect_gradients(model, text, divergence=divergence, reporter=reporter)
    if Ranks.current().first:
        gradients.save(path, key)
    return gradients


def content_key(model: Model, settings: Calibration) -> str:
    """Return the hash of everything the stages depend on: weights, configuration and settings."""
    piece = Workpiece.of(model)
    return hash_of(PIECES, piece.key, settings.resolved(piece).facts())


def _source(
    piece: Workpiece,
    settings: Calibration,
    new_cache: NewCache,
    reporter: Reporter,
) -> Source:
    """Return the source of text that the settings name."""
    vocab_size = piece.subject.vocab_size
    if settings.source == "shards":
        tokens = read_shards(list(settings.data))
        return Corpus(tokens, "shards", vocab_size, settings.seed)
    if settings.ids is not None:
        return Corpus(settings.ids, "given", vocab_size, settings.seed)
    if settings.source == "random":
        return RandomTokens(vocab_size, settings.seed)
    return SelfGenerated(
        new_cache,
        vocab_size,
        settings.seed,
        settings.temperature,
        reporter=reporter,
    )
