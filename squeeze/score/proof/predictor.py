"""The predictors a proof can run on, and how its file names them (docs/prove.md §3)."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from squeeze.errors import BadConfig, CorruptData
from squeeze.score.adapt.by_chunk import ChunkOptions, ChunkPredictor
from squeeze.score.adapt.by_document import LoraPredictor
from squeeze.score.adapt.lora import LoraOptions
from squeeze.score.adapt.phased import PhasedOptions, PhasedPredictor
from squeeze.score.modes import Mode
from squeeze.score.past import Context
from squeeze.score.predictor import CachedPredictor, Int64, Predictor
from squeeze.train.model.config import MAX_SEQ_LEN, ModelConfig
from squeeze.train.model.gpt import GPT

MAX_MEMORY = 8 << 30  # bytes: a hostile header may ask for any window, batch and rank
SHRINK = 0.75  # rows are dropped once no more than this share of them is in use
DEFAULT = "documents"
BATCHES = {"documents": 64, "ttt-lora": 16, "ttt-phased": 16, "ttt-chunk": 1}  # documents at a time


class ShrinkingPredictor(CachedPredictor):
    """`CachedPredictor` that can let go of documents that have ended, so that they cost no more."""

    def keep(self, rows: Int64) -> None:
        """Go on with documents `rows` int64 [k] of the batch only, k ≥ 1; the others have ended."""
        self._ended = self._ended[rows]
        self._fed = [tokens[rows] for tokens in self._fed]
        self._context = Context(self._model, len(rows), self.length)
        self._context.fill(self._on_device(self._tokens(self._start, len(self._fed))))


def rows_to_keep(live: npt.NDArray[np.bool_]) -> Int64 | None:
    """Rows in use, if dropping the others is worth reading the window again; else None."""
    count = int(live.sum())
    return np.flatnonzero(live) if 0 < count <= SHRINK * len(live) else None


def mode_fields(mode: Mode) -> dict[str, Any]:
    """A mode as proof files hold it: what differs from the default."""
    fields = {
        "mode": None if mode.name == DEFAULT else mode.name,
        "length": mode.length,
        "stride": mode.stride,
        "ttt": dict(mode.settings) or None,
    }
    return {name: value for name, value in fields.items() if value is not None}


def read_mode(fields: Mapping[str, Any]) -> Mode:
    """Inverse of `mode_fields`. Raises CorruptData for what that cannot write, BadConfig as Mode."""
    kinds = {"mode": str, "length": int, "stride": int, "ttt": dict}
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


def build_predictor(
    config: ModelConfig,
    tensors: Any,
    mode: Mode,
    documents: int,
    tokens: int,
    batch: int,
    device: torch.device,
) -> Predictor:
    """The predictor of a mode, before the first of `documents` documents, of `tokens` tokens in all.

    Raises BadConfig for values out of range or that would take more than MAX_MEMORY bytes.
    """
    length = config.seq_len if mode.length is None else mode.length
    if mode.name == DEFAULT:
        stride = max(1, length // 2) if mode.stride is None else mode.stride
        options: Any = None
    else:
        stride = min(64, length) if mode.stride is None else mode.stride
        options = mode.adaptation(length, stride)
    lora = options.lora if isinstance(options, PhasedOptions) else options
    _check_memory(config, batch, length, lora.rank if isinstance(lora, LoraOptions) else 0)
    model = GPT.from_tensors(config, tensors).to(device)
    if isinstance(options, LoraOptions):
        return LoraPredictor(model, options)
    if isinstance(options, PhasedOptions):
        lora = dataclasses.replace(options.lora, batch=batch)
        return PhasedPredictor(model, documents, dataclasses.replace(options, lora=lora))
    if isinstance(options, ChunkOptions):
        return ChunkPredictor(model, tokens + documents, options)
    return ShrinkingPredictor(model, length, stride)


def _check_memory(config: ModelConfig, batch: int, length: int, rank: int) -> None:
    """Keys and values; and LoRA factors with their gradients and moments, on everything in a block."""
    past = 2 * len(config.depth) * config.num_kv_heads * config.head_dim * length
    widths = config.vocab_size + 13 * config.num_layers * config.model_dim
    needed = 4 * batch * (past + 4 * rank * widths)
    if needed > MAX_MEMORY:
        raise BadConfig(
            "proof: what a batch keeps does not fit",
            expected=f"≤ {MAX_MEMORY:,} bytes",
            found=f"{needed:,} for {batch} documents of {length} tokens",
            fix="Lower the batch, the window or the rank.",
        )
