"""A subject with the parts of our model that scoring uses: whole forwards, and windows by steps."""

from __future__ import annotations

from types import SimpleNamespace

import torch
from torch import Tensor

from squeeze.subject.outputs import check_logits
from squeeze.subject.subject import Subject, WholeForwards, running

NO_TOKEN = -1  # beginning of documents of a model that knows none


class WholeForward:
    """A subject as the modes that do not adapt use a model: its hidden states are its logits."""

    def __init__(self, subject: Subject) -> None:
        self.subject = subject
        self.config = SimpleNamespace(
            vocab_size=subject.vocab_size,
            seq_len=subject.length,
            bos_id=NO_TOKEN if subject.bos is None else subject.bos,
        )

    @property
    def tok_emb(self) -> SimpleNamespace:
        """An empty stand-in for the table of our model, whose weight tells the device."""
        return SimpleNamespace(weight=torch.empty(0, device=self.subject.device))

    def eval(self) -> WholeForward:
        """Return the model, which is in eval mode."""
        return self

    def __call__(self, ids: Tensor) -> Tensor:
        """Return the logits [B, T, V] of ids int64 [B, T]."""
        return self.subject.logits(ids)

    def hidden(self, ids: Tensor) -> Tensor:
        """Return the logits [B, T, V] of ids int64 [B, T]."""
        return self.subject.logits(ids)

    def head(self, hidden: Tensor) -> Tensor:
        """Return logits of what `hidden` returned: the same."""
        return hidden

    def new_context(self, batch: int, length: int) -> Steps:
        """Return an empty window of so many documents and tokens, read token by token."""
        return Steps(self.subject, batch, length)


class Steps:
    """A window that a subject reads token by token: with its own `step`, or all of it each time."""

    def __init__(self, subject: Subject, batch: int, length: int) -> None:
        with running():
            self._cache = subject.new_cache(batch, length)

    def reset_(self) -> None:
        """Drop all tokens."""
        with running():
            self._cache.reset_()

    @torch.no_grad()
    def fill(self, ids: Tensor) -> None:
        """Take in ids int64 [B, t], t ≥ 1, as the first tokens."""
        self.reset_()
        if isinstance(self._cache, WholeForwards):
            self._cache.fill(ids)
        else:
            self.step(ids)

    @torch.no_grad()
    def step(self, ids: Tensor) -> Tensor:
        """Return logits float32 [B, t, V] after each of ids int64 [B, t]. Raises BadCheckpoint."""
        with running():
            logits = self._cache.step(ids)
        return check_logits(logits, ids)
