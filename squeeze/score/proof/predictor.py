"""The predictors that a proof can run on, and their names in its file (docs/prove.md §3)."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from squeeze.errors import BadConfig, CorruptData
from squeeze.score.adapt.options import LoraOptions, PhasedOptions
from squeeze.score.evaluate import scoring_of
from squeeze.score.modes import Mode, Options, TokenScoring
from squeeze.score.predictor import Extent, Int64, Predictor
from squeeze.score.proof.said import MODEL, SCRIPT
from squeeze.subject.subject import Subject
from squeeze.train.model.config import MAX_SEQ_LEN, ModelConfig
from squeeze.train.model.gpt import GPT

MAX_MEMORY = 8 << 30  # bytes: a hostile header may ask for any window, batch and rank
SHRINK = 0.75  # rows are dropped once no more than this share of them is in use
DEFAULT = "documents"
BATCHES = {"documents": 64, "ttt-lora": 16, "ttt-phased": 16, "ttt-chunk": 1}  # documents at a time


def rows_to_keep(live: npt.NDArray[np.bool_]) -> Int64 | None:
    """Return the rows in use, or None when dropping the others costs more than it saves.

    The window is read again for the rows that stay.
    """
    count = int(live.sum())
    return np.flatnonzero(live) if 0 < count <= SHRINK * len(live) else None


def mode_fields(mode: Mode) -> dict[str, Any]:
    """Return a mode as proof files hold it: the fields that differ from the default."""
    fields = {
        "mode": None if mode.name == DEFAULT else mode.name,
        "length": mode.length,
        "stride": mode.stride,
        "ttt": dict(mode.settings) or None,
    }
    return {name: value for name, value in fields.items() if value is not None}


def read_mode(fields: Mapping[str, Any]) -> Mode:
    """Return the mode of `mode_fields`; raises CorruptData for other fields, BadConfig as Mode."""
    kinds = {"mode": str, "length": int, "stride": int, "ttt": dict, SCRIPT: str, MODEL: str}
    for name, value in fields.items():
        if name not in kinds or type(value) is not kinds[name]:
            raise CorruptData(
                "proof: mode", expected=", ".join(kinds), found=f"{name}: {value}"[:80]
            )
    settings = fields.get("ttt", {})
    if not all(isinstance(value, str) for value in settings.values()):
        raise CorruptData("proof: options of the mode", expected="text", found=str(settings)[:80])
    length, stride = fields.get("length"), fields.get("stride")
    mode = Mode(fields.get("mode", DEFAULT), length, stride, settings)
    if mode.name not in BATCHES:
        raise BadConfig("a proof codes documents", expected=", ".join(BATCHES), found=mode.name)
    for name, value in (("length", length), ("stride", stride)):
        if value is not None and not 1 <= value <= MAX_SEQ_LEN:
            raise BadConfig(f"proof: {name}", expected=f"1 to {MAX_SEQ_LEN}", found=value)
    if "batch" in settings:
        raise BadConfig("--ttt batch", fix="Use --batch.")
    return mode


def build_predictor(subject: Subject, mode: Mode, extent: Extent) -> Predictor:
    """Return the predictor of a mode for a text of that extent, before its first document.

    subject: of which a mode that learns trains the weights

    Raises BadConfig for values out of range or that would take more than MAX_MEMORY bytes, and as
    `scoring_of` does.
    """
    length = subject.length if mode.length is None else mode.length
    if mode.name == DEFAULT and mode.stride is None:
        mode = dataclasses.replace(mode, stride=max(1, length // 2))
    scoring = scoring_of(mode, subject)
    if isinstance(subject.module, GPT):
        rank = _rank(mode.options(subject.length))
        _check_memory(_kept(subject.module.config, length, rank), extent.batch, length)
    else:  # what else a stranger's forward keeps is not known before it runs
        _check_memory(4 * length * subject.vocab_size, extent.batch, length)
    assert isinstance(scoring, TokenScoring)  # read_mode takes no other
    return scoring.predictor(extent)


def _rank(options: Options) -> int:
    """Return the rank of the factors that each document of a batch has; 0 where it has none."""
    if isinstance(options, PhasedOptions):
        return options.lora.rank
    return options.rank if isinstance(options, LoraOptions) else 0


def _kept(config: ModelConfig, length: int, rank: int) -> int:
    """Return the bytes that are kept for a document.

    Counted are keys and values, and LoRA factors with their gradients and moments on all of a block.
    """
    past = 2 * len(config.depth) * config.num_kv_heads * config.head_dim * length
    widths = config.vocab_size + 13 * config.num_layers * config.model_dim
    return 4 * (past + 4 * rank * widths)


def _check_memory(kept: int, batch: int, length: int) -> None:
    """Raise BadConfig when a batch needs more than MAX_MEMORY bytes; kept: for each document."""
    needed = batch * kept
    if needed > MAX_MEMORY:
        raise BadConfig(
            "proof: what a batch keeps does not fit",
            expected=f"≤ {MAX_MEMORY:,} bytes",
            found=f"{needed:,} for {batch} documents of {length} tokens",
            fix="Lower the batch, the window or the rank.",
        )
