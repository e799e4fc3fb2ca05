"""Incremental forward: keys and values of earlier tokens are kept, each new token costs one column.

The buffers are allocated once for a batch and a length, one pair per effective depth, so a block that
runs several times keeps a past for each pass. The arithmetic is the model's own forward with another
attention (`GPT.forward(ids, past)`); nothing of the architecture is repeated here.

On a CUDA device single-token steps can be captured as graphs: one per `BUCKET` of positions, since a
graph has fixed shapes and attention over the whole buffer would read twice what it needs.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from squeeze.errors import BadData
from squeeze.train.model.documents import first_seen, visible
from squeeze.train.model.gpt import GPT

BUCKET = 256  # positions a captured step reads beyond what it needs, at most
WARM_UPS = 2  # uncaptured runs before a capture, as CUDA graphs ask for


class Cache:
    """Keys and values of `batch` sequences that grow together to at most `length` tokens.

    buckets: attend over whole buckets of positions behind a mask, the fixed shapes that graphs need;
        None: only on CUDA, where steps of one token are then captured and replayed

    step(ids [B, t]) takes any t ≥ 1: a prompt at once or token by token, in any mixture; logits agree
    with the full forward to rounding. Positions may exceed the model's training window. A sequence
    that ends early is padded on the right: later tokens never reach earlier logits.
    """

    def __init__(self, model: GPT, batch: int, length: int, buckets: bool | None = None) -> None:
        for name, value in (("batch", batch), ("length", length)):
            if value < 1:
                raise BadData(f"cache {name}", expected="at least 1", found=value)
        weight, config = model.tok_emb.weight, model.config
        self.model, self.batch, self.length = model, batch, length
        self.device = weight.device
        self.buckets = self.device.type == "cuda" if buckets is None else buckets
        shape = (len(config.depth), batch, config.num_kv_heads, length, config.head_dim)
        self._keys = torch.zeros(shape, dtype=model.stream_dtype(), device=self.device)
        self._values = torch.zeros_like(self._keys)
        self._all_positions = torch.arange(length, device=self.device)
        # at p + 1 what belongs to position p, at 0 what comes before all: stepping twice over the same
        # tokens, as captures do, leaves the same behind
        self._starts = torch.zeros(batch, length + 1, dtype=torch.int64, device=self.device)
        self._earlier: dict[str, Tensor] = {}
        self._mask: Tensor | None = None
        self._graphs: dict[int, Callable[[Tensor], Tensor]] = {}
        self.reset_()

    def reset_(self) -> None:
        """Drop all tokens; the buffers stay and are written over."""
        self.used = 0
        self._visible = 0
        self._now = self._all_positions[:0]

    @torch.inference_mode()
    def step(self, ids: Tensor) -> Tensor:
        """Return logits float32 [B, t, V] for the token after each of ids int64 [B, t], t ≥ 1.

        Raises BadData for another batch size, no tokens, or more than fit the length.
        """
        if ids.dim() != 2 or ids.size(0) != self.batch or ids.size(1) < 1:
            raise BadData("cached step", expected=f"ids [{self.batch}, ≥ 1]", found=list(ids.shape))
        stop = self.used + ids.size(1)
        if stop > self.length:
            raise BadData("cache is full", expected=f"≤ {self.length} tokens", found=stop)
        self._now = self._all_positions[self.used : stop]
        self._visible = min(self.length, -(-stop // BUCKET) * BUCKET) if self.buckets else stop
        if self.buckets and ids.size(1) == 1 and self.device.type == "cuda":
            logits = self._replay(ids)
        else:
            logits = self.model(ids, self)
        self.used = stop
        return logits

    def begin(self, ids: Tensor) -> Tensor:
        """Return positions int64 [t] of the running step's tokens [B, t]; sets what attention sees."""
        config, now = self.model.config, self._now
        starts = None
        if config.document_attention:
            last = self._starts.index_select(1, now[:1])
            starts = torch.where(ids == config.bos_id, now, last).cummax(1).values
            self._starts.index_copy_(1, now + 1, starts)
        self._mask = None
        if ids.size(1) > 1 or self.buckets or starts is not None or config.attention_window:
            first = first_seen(starts, now, config.attention_window)
            self._mask = visible(first, now, self._all_positions[: self._visible])
        return now

    def shift(self, what: str, x: Tensor) -> Tensor:
        """Return x [B, t, ...] of the running step moved by one token; `what` names it within a step."""
        if what not in self._earlier:
            shape = (self.batch, self.length + 1, *x.shape[2:])
            self._earlier[what] = torch.zeros(shape, dtype=x.dtype, device=self.device)
        earlier = self._earlier[what]
        earlier.index_copy_(1, self._now + 1, x)
        return earlier.index_select(1, self._now)

    def attend(self, level: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Store k and v [B, KV, t, d] of a layer, and return attention of q [B, H, t, d] over all."""
        keys, values = self._keys[level], self._values[level]
        keys.index_copy_(2, self._now, k)
        values.index_copy_(2, self._now, v)
        keys, values = keys[:, :, : self._visible], values[:, :, : self._visible]
        batch, heads, count, width = q.shape
        # Query heads that share keys become rows of one query: the keys are read once, not repeated.
        shared = heads // k.size(1)
        rows = q.reshape(batch, k.size(1), shared * count, width)
        mask = None if self._mask is None else self._mask.repeat(1, shared, 1)[:, None]
        mixed = F.scaled_dot_product_attention(rows, keys, values, attn_mask=mask)
        return mixed.reshape(batch, heads, count, width)

    def _replay(self, ids: Tensor) -> Tensor:
        if self._visible not in self._graphs:
            self._graphs[self._visible] = self._capture(ids)
        return self._graphs[self._visible](ids)

    def _capture(self, ids: Tensor) -> Callable[[Tensor], Tensor]:
        """Return a CUDA graph of a single-token step at the current bucket, with its static inputs."""
        fixed_ids, fixed_now = ids.clone(), self._now.clone()
        now, self._now = self._now, fixed_now
        stream = torch.cuda.Stream(self.device)
        stream.wait_stream(torch.cuda.current_stream(self.device))
        with torch.cuda.stream(stream):
            for _ in range(WARM_UPS):  # writes the same keys again: harmless
                self.model(fixed_ids, self)
        torch.cuda.current_stream(self.device).wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, stream=stream):
            fixed_logits = self.model(fixed_ids, self)
        self._now = now

        def replay(ids: Tensor) -> Tensor:
            fixed_ids.copy_(ids)
            fixed_now.copy_(self._now)
            graph.replay()
            return fixed_logits.clone()

        return replay
