"""The stateful scoring protocol: feed a token, get the distribution of the next one.

An encoder and a decoder that feed the same tokens get the same distributions, bit for bit: a predictor
reads nothing but the tokens fed to it, and adapts on those tokens alone. Windows move as in
`squeeze.score.plan`, so that feeding a document token by token gives the score of `squeeze eval` to
rounding.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from squeeze.errors import BadConfig, BadData
from squeeze.score.past import context_of
from squeeze.train.model.gpt import GPT

Int64 = npt.NDArray[np.int64]
Float32 = npt.NDArray[np.float32]

ENDED = -1  # fed instead of a token for a document that has none left


@dataclass(frozen=True)
class Extent:
    """Size of the text that a predictor is going to be fed.

    documents: their number
    outputs: predictions over all of them
    batch: documents that are fed together
    """

    documents: int
    outputs: int
    batch: int


class Predictor(Protocol):
    """One evaluation run: batch after batch of documents, token after token.

    Predictors that adapt across documents keep that state from one `start` to the next; a new run
    needs a new predictor.
    """

    vocab_size: int

    def start(self, batch: int) -> None:
        """Begin `batch` new documents; tokens fed before are no longer context."""

    def next(self, tokens: Int64) -> Float32:
        """Return logits float32 [B, V] of the token after tokens int64 [B], one of each document.

        The first token of a document (its BOS) is fed, never predicted. ENDED marks a document that
        has no more tokens: its row of the answer means nothing, and it stays ended.
        """


class CachedPredictor:
    """A model that does not adapt, read through windows of `length` tokens that move by `stride`.

    The first `length` tokens are one window; then each window drops the oldest `stride` tokens, reads
    the rest again and predicts `stride` more. Positions start at 0 in every window. Subclasses that
    adapt define when they do, and where their windows start.
    """

    def __init__(self, model: GPT, length: int | None = None, stride: int | None = None) -> None:
        self.length = model.config.seq_len if length is None else length
        self.stride = self.length if stride is None else stride
        if not 1 <= self.stride <= self.length:
            raise BadConfig("stride", expected=f"1 to the length, {self.length}", found=self.stride)
        self.vocab_size = model.config.vocab_size
        self._model = model.eval()
        self._device = model.tok_emb.weight.device
        self._fed: list[Int64] = []  # tokens of the running documents, one array [B] a step

    def start(self, batch: int) -> None:
        """See `Predictor`."""
        self._ended = np.zeros(batch, np.bool_)
        self._fed = []
        self._start = 0
        self._context = context_of(self._model, batch, self.length)

    def next(self, tokens: Int64) -> Float32:
        """See `Predictor`."""
        tokens = checked_tokens(tokens, self._ended, self.vocab_size)
        at = len(self._fed)
        self._fed.append(tokens)
        start = self._window_start(at)
        if self._adapt(at) or start != self._start:
            self._start = start
            self._context.reset_()
            if start < at:
                self._context.fill(self._on_device(self._tokens(start, at)))
        # what a stranger's module keeps between forwards may be needed where gradients are
        with torch.inference_mode(isinstance(self._model, GPT)), torch.no_grad():
            hidden = self._context.step(self._on_device(tokens[:, None]))
            return self._head(hidden)[:, -1].cpu().numpy()

    def _window_start(self, at: int) -> int:
        """Return the first token of the window that predicts after token `at`."""
        return max(0, -(-(at + 1 - self.length) // self.stride)) * self.stride

    def _adapt(self, at: int) -> bool:
        """Learn from the tokens fed so far, `at` the last; return whether anything was learnt."""
        return False

    def _head(self, hidden: Tensor) -> Tensor:
        """Return logits float32 [B, t, V] of final states [B, t, D]."""
        return self._model.head(hidden)

    def _tokens(self, start: int, stop: int) -> Int64:
        """Return tokens start … stop - 1 of every document, int64 [B, stop - start]."""
        return np.stack(self._fed[start:stop], axis=1)

    def _on_device(self, ids: npt.NDArray[Any]) -> Tensor:
        return torch.from_numpy(ids).to(self._device)


class ShrinkingPredictor(CachedPredictor):
    """A `CachedPredictor` that can drop documents which have ended, so that they cost no more."""

    def keep(self, rows: Int64) -> None:
        """Continue with documents `rows` int64 [k] of the batch only, k ≥ 1; the others have ended."""
        self._ended = self._ended[rows]
        self._fed = [tokens[rows] for tokens in self._fed]
        self._context = context_of(self._model, len(rows), self.length)
        self._context.fill(self._on_device(self._tokens(self._start, len(self._fed))))


def checked_tokens(tokens: Int64, ended: npt.NDArray[np.bool_], vocab_size: int) -> Int64:
    """Return tokens with 0 for documents that have ended; bring `ended` bool [B] up to date.

    Raises BadData for another batch size, a token out of range, or a token after the end.
    """
    if tokens.shape != ended.shape:
        raise BadData(
            "tokens to feed", expected=f"one for each of {len(ended)}", found=tokens.shape
        )
    over = tokens == ENDED
    if np.any(ended & ~over) or np.any(~over & ((tokens < 0) | (tokens >= vocab_size))):
        raise BadData(
            "tokens to feed",
            expected=f"0 to {vocab_size - 1}, or {ENDED} from a document's end on",
            found=tokens[:8].tolist(),
        )
    ended |= over
    return np.where(over, 0, tokens).astype(np.int64)
