"""The predictors a proof can run on, and how its file names them (docs/prove.md §3)."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from squeeze.errors import BadConfig, UnsupportedFormat
from squeeze.score.lora import LoraOptions
from squeeze.score.past import Context
from squeeze.score.predictor import CachedPredictor, Int64, Predictor
from squeeze.score.proof_options import differences, replaced
from squeeze.score.ttt_chunk import ChunkOptions, ChunkPredictor
from squeeze.score.ttt_lora import LoraPredictor
from squeeze.score.ttt_phased import PhasedOptions, PhasedPredictor
from squeeze.train.config import ModelConfig
from squeeze.train.model import GPT

MAX_MEMORY = 8 << 30  # bytes: a hostile header may ask for any window, batch and rank
SHRINK = 0.75  # rows are dropped once no more than this share of them is in use


@dataclass(frozen=True)
class WindowOptions:
    """Windows without training; None: the model's window, moved by half of it."""

    length: int | None = None
    stride: int | None = None


TTT = {"lora": LoraOptions(), "phased": PhasedOptions(), "chunk": ChunkOptions()}
BATCHES = {None: 64, "lora": 16, "phased": 16, "chunk": 1}  # documents side by side, by default


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


def canonical_mode(ttt: str | None, fields: dict[str, Any]) -> dict[str, Any]:
    """The mode as files hold it: `ttt`, and the fields that are not at their default.

    Raises as `replaced`.
    """
    mode = {} if ttt is None else {"ttt": ttt}
    defaults = _defaults(ttt)
    return mode | differences(replaced(defaults, fields), defaults)


def build_predictor(
    config: ModelConfig,
    tensors: Any,
    mode: dict[str, Any],
    documents: int,
    tokens: int,
    batch: int,
    device: torch.device,
) -> Predictor:
    """The predictor that `mode` describes, before the first of `documents`, of `tokens` in all.

    Raises UnsupportedFormat for options it does not know, BadConfig for values out of range or that
    would take more than MAX_MEMORY bytes.
    """
    fields = {name: value for name, value in mode.items() if name != "ttt"}
    options: Any = replaced(_defaults(mode.get("ttt")), fields)
    if isinstance(options, WindowOptions):
        length = config.seq_len if options.length is None else options.length
        stride = max(1, length // 2) if options.stride is None else options.stride
    else:
        length = options.lora.length if isinstance(options, PhasedOptions) else options.length
    lora = options.lora if isinstance(options, PhasedOptions) else options
    rank = lora.rank if isinstance(lora, LoraOptions) else 0
    _check_memory(config, batch, length, rank)
    model = GPT.from_tensors(config, tensors).to(device)
    if isinstance(options, LoraOptions):
        return LoraPredictor(model, options)
    if isinstance(options, PhasedOptions):
        lora = dataclasses.replace(options.lora, batch=batch)
        return PhasedPredictor(model, documents, dataclasses.replace(options, lora=lora))
    if isinstance(options, ChunkOptions):
        return ChunkPredictor(model, tokens + documents, options)
    return ShrinkingPredictor(model, length, stride)


def _defaults(ttt: Any) -> Any:
    if ttt is None:
        return WindowOptions()
    if not isinstance(ttt, str) or ttt not in TTT:
        raise UnsupportedFormat(
            "proof: unknown test-time training", expected=", ".join(TTT), found=ttt
        )
    return TTT[ttt]


def _check_memory(config: ModelConfig, batch: int, length: int, rank: int) -> None:
    """Keys and values; and LoRA factors with their gradients and moments, at most six a block."""
    if length < 1:
        raise BadConfig("proof: length", expected="≥ 1", found=length)
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
