"""Reading context that nothing is predicted from, at less than the price of a forward pass."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor

from squeeze.train.model.attention import Attend, attention_for
from squeeze.train.model.cache import Cache
from squeeze.train.model.config import ModelConfig
from squeeze.train.model.gpt import GPT


class _Filled(Exception):
    """The last layer has its keys and values; nothing after them is wanted."""


class Context(Cache):
    """A Cache whose `step` gives final states [B, t, D] instead of logits, and that can `fill`.

    A fill begins an empty cache. It attends as a forward without a past does, and stops once the last
    layer's keys and values are kept: that layer's attention and MLP, the final norm and the head are
    never computed for context, and nothing later would read them.
    """

    def __init__(self, model: GPT, batch: int, length: int, buckets: bool | None = None) -> None:
        self._config = model.config
        self._plain: Attend | None = None  # attention of the running fill
        super().__init__(_States(model), batch, length, buckets)  # type: ignore[arg-type]

    def fill(self, ids: Tensor) -> None:
        """Take in ids int64 [B, t], t ≥ 1, as the first tokens."""
        self.reset_()
        self._plain = attention_for(self._config, ids, self._keys.dtype)
        try:
            self.step(ids)
        finally:
            self._plain = None

    def attend(self, level: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        if self._plain is None:
            return super().attend(level, q, k, v)
        count = k.size(2)
        self._keys[level, :, :, :count] = k
        self._values[level, :, :, :count] = v
        if level == len(self._keys) - 1:
            raise _Filled
        return self._plain(q, k, v)

    def _replay(self, ids: Tensor) -> Tensor:
        if self._plain is not None:  # a captured step is no fill
            return self.model(ids, self)
        return super()._replay(ids)


def context_of(model: GPT, batch: int, length: int) -> Any:
    """Return an empty Context of our model, or what another model reads its windows with."""
    if isinstance(model, GPT):
        return Context(model, batch, length)
    return cast(Any, model).new_context(batch, length)


class _States:
    """A model without its head, stopped where a fill ends; a Context runs it."""

    def __init__(self, model: GPT) -> None:
        self._model = model
        self.tok_emb = model.tok_emb
        self.config: ModelConfig = model.config
        self.stream_dtype = model.stream_dtype

    def __call__(self, ids: Tensor, past: Context) -> Tensor:
        try:
            return self._model.hidden(ids, past)
        except _Filled:
            return torch.empty(0)
