"""Scoring from Python: a model in memory or in a file, text as token ids."""

from __future__ import annotations

import os
from dataclasses import dataclass

from squeeze.checkpoint.complete import Config
from squeeze.checkpoint.live import Packable
from squeeze.score.evaluate import EvalOptions, evaluate_tokens
from squeeze.score.modes import Mode
from squeeze.score.report import EvalReport
from squeeze.subject.defaults import torch_by_default
from squeeze.subject.live import open_live
from squeeze.subject.subject import Subject
from squeeze.train.data.shards import TokenIds, as_tokens


@dataclass(frozen=True)
class EvalCall:
    """Arguments of `squeeze.evaluate`, each under its name."""

    model: Packable | Subject
    tokens: TokenIds
    tokenizer: str | os.PathLike[str]
    mode: str
    config: Config | None
    entry: str | None
    device: str | None
    assume: bool
    other_tokenizer: bool


def evaluate_call(call: EvalCall) -> EvalReport:
    """Return the score of the model on the tokens. Raises as `squeeze.evaluate` says."""
    options = EvalOptions(Mode(call.mode), device=call.device, other_tokenizer=call.other_tokenizer)
    tokens = as_tokens(call.tokens)
    with torch_by_default():
        piece = open_live(call.model, call.config, call.entry, call.assume)
        return evaluate_tokens(piece, call.tokenizer, tokens, options)
