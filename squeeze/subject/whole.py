"""A subject with the parts of our model that scoring uses: every window is one whole forward."""

from __future__ import annotations

from types import SimpleNamespace

from torch import Tensor

from squeeze.subject.subject import Subject

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
        self.tok_emb = SimpleNamespace(weight=next(subject.module.parameters()))

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
