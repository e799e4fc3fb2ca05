"""Calibration of a loaded model: text, Hessians, output gradients, kept in a folder by content hash.

A killed run goes on where it was: a stage whose key matches is read back, Hessian sums go on from
their last save. The key covers weights, configuration and every setting that matters.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, fields, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from squeeze.calib.statistics.collect import collect
from squeeze.calib.statistics.fisher import OutputGradients, collect_gradients
from squeeze.calib.statistics.hessian import Hessians
from squeeze.calib.text.generate import TEMPERATURE, Progress, Tokens
from squeeze.calib.text.sources import (
    TOKENS,
    Corpus,
    RandomTokens,
    SelfGenerated,
    Sequences,
    Source,
    window_length,
)
from squeeze.checkpoint.read import LoadedModel
from squeeze.errors import BadConfig, BadData, CorruptData
from squeeze.files import make_folder, sha256, write_atomic
from squeeze.ranks.group import Ranks

if TYPE_CHECKING:
    from squeeze.train.model.gpt import GPT

SOURCES = ("self", "shards", "tokens", "random")
PIECES = 2  # which way the stages are cut into pieces: cut another way they round otherwise
OnStage = Callable[[str], Progress | None]  # told a stage's name, gives its progress callback


LARGE = 16_000_000  # weights; of a larger model a quarter of the tokens takes minutes on two cores


def default_tokens(weights: int) -> int:
    """Calibration tokens for a model of so many weights, when nobody asks for a number."""
    return TOKENS if weights <= LARGE else TOKENS // 4


@dataclass(frozen=True)
class Calibration:
    """Text to calibrate on.

    source: "self" (the model writes it), "shards" (real text, the token shards in `data`), "tokens"
        (real text, `ids`) or "random"
    tokens: in all; 0: `default_tokens` of the model, or all of `ids` where they are fewer
    length: tokens of a sequence; 0: the training window
    ids: uint16 [n]
    """

    source: str = "self"
    tokens: int = 0
    length: int = 0
    seed: int = 0
    temperature: float = TEMPERATURE
    data: tuple[str, ...] = ()
    ids: Tokens | None = field(default=None, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.source not in SOURCES:
            raise BadConfig("calibration source", expected=", ".join(SOURCES), found=self.source)
        if (self.source == "shards") != bool(self.data):
            raise BadConfig("calibration data is for source 'shards', which needs it")
        if (self.source == "tokens") != (self.ids is not None):
            raise BadConfig("calibration ids are for source 'tokens', which needs them")

    def resolved(self, loaded: LoadedModel) -> Calibration:
        """Return the settings with the number of tokens that a model is calibrated on."""
        tokens = self.tokens or default_tokens(loaded.config.num_params)
        if self.ids is not None and not self.tokens:
            length = self.length_for(loaded)
            tokens = min(tokens, max(len(self.ids) // length, 1) * length)
        return replace(self, tokens=tokens)

    def length_for(self, loaded: LoadedModel) -> int:
        """Return the tokens of a sequence for a model."""
        return self.length or window_length(loaded.config.seq_len)

    def facts(self) -> dict[str, object]:
        """Return every setting by name, the ids as their hash."""
        facts = {field.name: getattr(self, field.name) for field in fields(self)}
        ids = facts.pop("ids")
        return facts if ids is None else {**facts, "ids": sha256(ids.tobytes())}


@dataclass(frozen=True)
class Calibrated:
    """A model and what calibration found out about it."""

    model: GPT
    text: Sequences
    hessians: Hessians
    gradients: OutputGradients


def calibrate(
    loaded: LoadedModel,
    settings: Calibration,
    folder: Path,
    *,
    fresh: bool = False,
    on_stage: OnStage = lambda name: None,
    on_note: Callable[[str], None] = lambda note: None,
) -> Calibrated:
    """The model, calibration text, and Hessians and gradients on it, from `folder` where kept.

    fresh: ignore what is kept. on_note hears of kept files that had to be made again. Every rank of a
    process group must call, and gets the same; the first writes.
    """
    from squeeze.train.model.cache import Cache
    from squeeze.train.model.gpt import GPT

    settings = settings.resolved(loaded)
    model = GPT.from_tensors(loaded.config, loaded.tensors).eval()
    key = content_key(loaded, settings)
    make_folder(folder)
    text_file, hessian_file, gradient_file = (
        folder / f"{stage}.safetensors" for stage in ("text", "hessians", "gradients")
    )
    ranks = Ranks.current()
    if fresh and ranks.first:
        for kept in folder.glob("*.safetensors*"):
            kept.unlink()
    ranks.on_all(True)  # no rank looks before the first has cleared up
    with _noted(text_file, on_note if ranks.first else None):
        text = _kept_text(text_file, key)
        if not ranks.on_all(text is not None) or text is None:
            source = _source(loaded, settings, partial(Cache, model), on_stage("calibration text"))
            text = source.draw(settings.tokens, settings.length_for(loaded))
            if ranks.first:
                _keep_text(text_file, key, text)
    with _noted(hessian_file, on_note if ranks.first else None):
        hessians = collect(
            model, text, path=hessian_file, key=key, on_progress=on_stage("Hessians")
        )
    with _noted(gradient_file, on_note if ranks.first else None):
        gradients = _gradients(model, text, gradient_file, key, on_stage)
    return Calibrated(model, text, hessians, gradients)


@contextlib.contextmanager
def _noted(path: Path, on_note: Callable[[str], None] | None) -> Iterator[None]:
    """Tell on_note when a file that was there is replaced."""
    before = path.stat().st_mtime_ns if path.is_file() else None
    yield
    if on_note is not None and before is not None and path.stat().st_mtime_ns != before:
        on_note(f"{path} was damaged or of other weights or settings: made again")


def _gradients(
    model: GPT, text: Sequences, path: Path, key: str, on_stage: OnStage
) -> OutputGradients:
    kept = None
    if path.is_file():
        with contextlib.suppress(CorruptData):  # of other weights or torn: made again
            kept = OutputGradients.load(path, key)
    ranks = Ranks.current()
    if ranks.on_all(kept is not None) and kept is not None:
        return kept
    gradients = collect_gradients(model, text, on_progress=on_stage("output gradients"))
    if ranks.first:
        gradients.save(path, key)
    return gradients


def content_key(loaded: LoadedModel, settings: Calibration) -> str:
    """Hash of everything the stages depend on: weights, configuration and settings."""
    facts = [
        PIECES,
        loaded.sha256 + loaded.entry,
        loaded.config.to_json(),
        settings.resolved(loaded).facts(),
    ]
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def _source(
    loaded: LoadedModel,
    settings: Calibration,
    new_cache: Callable[[int, int], object],
    on_progress: Progress | None,
) -> Source:
    vocab_size = loaded.config.vocab_size
    if settings.source == "shards":
        from squeeze.train.data.shards import read_shards

        tokens = read_shards(list(settings.data))
        return Corpus(tokens, "shards", vocab_size, settings.seed)
    if settings.ids is not None:
        return Corpus(settings.ids, "given", vocab_size, settings.seed)
    if settings.source == "random":
        return RandomTokens(vocab_size, settings.seed)
    return SelfGenerated(
        new_cache,  # type: ignore[arg-type]
        vocab_size,
        settings.seed,
        settings.temperature,
        on_progress=on_progress,
    )


def _keep_text(path: Path, key: str, text: Sequences) -> None:
    arrays: dict[str, npt.NDArray[Any]] = {"ids": text.ids, "lengths": text.lengths}
    write_atomic(path, save(arrays, {"text": json.dumps({"key": key, "source": text.source})}))


def _kept_text(path: Path, key: str) -> Sequences | None:
    """The text kept under this key, or None when there is none or it is of another key or damaged."""
    if not path.is_file():
        return None
    try:
        with safe_open(path, "numpy") as file:
            facts = json.loads((file.metadata() or {})["text"])
            if facts["key"] != key:
                return None
            ids, lengths = file.get_tensor("ids"), file.get_tensor("lengths")
            return Sequences(ids.astype(np.uint16), lengths.astype(np.int32), facts["source"])
    except (SafetensorError, OSError, ValueError, KeyError, TypeError, RecursionError, BadData):
        return None
