"""Causal attention that can keep to documents and to a sliding window: one interface, four kernels.

`attention_over(ids, ...)` looks at a batch once and returns the function that every layer calls.
Nothing of size T×T is made when neither documents nor a window are asked for. Otherwise
FlashAttention-3 reads documents as sequences of varying length (J. Shah et al., arXiv 2407.08608),
FlexAttention skips blocks of a mask (J. Dong et al., arXiv 2412.05496), and elsewhere
`scaled_dot_product_attention` gets the mask whole. `plain_attention` is what all of them must equal.
"""

from __future__ import annotations

import functools
import importlib.util
import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from squeeze.train.model.config import ModelConfig

Attend = Callable[[Tensor, Tensor, Tensor], Tensor]

flash: Any = None
if importlib.util.find_spec("flash_attn_interface"):  # optional, and only made for CUDA
    flash = importlib.import_module("flash_attn_interface")

HALVES = (torch.float16, torch.bfloat16)
SHORT = 256  # tokens; up to here a CPU trains faster with the scores written out (docs/log.md)


def document_starts(ids: Tensor, bos_id: int) -> Tensor:
    """Return, for each token, the position int64 [B, T] where its document begins in its row.

    ids: int64 [B, T]; `bos_id` begins a document, and so does a row.
    """
    positions = torch.arange(ids.size(1), device=ids.device)
    return torch.where(ids == bos_id, positions, 0).cummax(1).values


def visible(first: Tensor, queries: Tensor, keys: Tensor) -> Tensor:
    """Return the mask bool [B, t, s] that is True where a query sees a key.

    first: earliest position that each query sees [B or 1, t]
    queries, keys: their positions [t] and [s]
    """
    return (keys <= queries[:, None]) & (keys >= first[..., None])


def first_seen(starts: Tensor | None, queries: Tensor, window: int) -> Tensor:
    """Return the earliest position [B or 1, t] that queries at positions [t] see.

    starts: where the documents of the queries begin [B, t]; None: all earlier tokens may be seen
    window: tokens that a query sees, itself included; 0: no limit
    """
    first = queries[None] - (window - 1) if window else torch.zeros_like(queries)[None]
    return first if starts is None else torch.maximum(first, starts)


def plain_attention(q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
    """Return softmax attention as it is defined: the oracle of the tests.

    q [B, H, T, d]; k, v [B, KV, S, d], KV dividing H; mask bool [B or 1, T, S], True where visible.
    """
    group = q.size(1) // k.size(1)
    k, v = (x.repeat_interleave(group, 1) for x in (k, v))
    scores = q @ k.mT / math.sqrt(q.size(-1))
    return scores.masked_fill(~mask[:, None], -math.inf).softmax(-1) @ v


def causal_attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Return attention to all earlier tokens; q [B, H, T, d], k and v [B, KV, T, d], KV dividing H."""
    if q.device.type == "cpu" and q.size(2) <= SHORT and torch.is_grad_enabled():
        return short_attention(q, k, v)
    shared = k.size(1) != q.size(1)
    return F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=shared)


def short_attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Return `causal_attention` through its [T, T] scores, in float32 whatever the inputs are.

    Query heads that share keys are rows of one product. At T = 128 in bfloat16 forward and backward
    take less than half of the CPU time of `scaled_dot_product_attention`.
    """
    batch, heads, length, width = q.shape
    rows = (q * width**-0.5).reshape(batch, k.size(1), -1, width)
    scores = (rows @ k.mT).unflatten(2, (-1, length)).float()
    hidden = torch.full((length, length), -math.inf, device=q.device).triu(1)
    shares = (scores + hidden).softmax(-1).to(v.dtype).flatten(2, 3)
    return (shares @ v).reshape(batch, heads, length, width)


def attention_for(config: ModelConfig, ids: Tensor, dtype: torch.dtype) -> Attend:
    """Return the attention over ids int64 [B, T] that a model's configuration asks for."""
    if config.document_attention or config.attention_window:
        return attention_over(
            ids,
            config.bos_id,
            documents=config.document_attention,
            window=config.attention_window,
            dtype=dtype,
        )
    return _attention_to_all(ids, dtype)


def _attention_to_all(ids: Tensor, dtype: torch.dtype) -> Attend:
    if flash is not None and ids.is_cuda and dtype in HALVES:
        return functools.partial(_flash_rows, window=0, dtype=dtype)
    return causal_attention


def attention_over(
    ids: Tensor, bos_id: int, *, documents: bool, window: int, dtype: torch.dtype
) -> Attend:
    """Return causal attention for ids int64 [B, T], within documents and windows where asked.

    documents: tokens see their own document only
    window: tokens that a query sees, itself included; 0: no limit
    dtype: of queries, keys and values; FlashAttention needs 16 bits
    """
    flashes = flash is not None and ids.is_cuda and dtype in HALVES
    if not documents and (not window or window >= ids.size(1)):
        return _attention_to_all(ids, dtype)
    starts = document_starts(ids, bos_id) if documents else None
    if flashes and starts is None:
        return functools.partial(_flash_rows, window=window, dtype=dtype)
    if flashes and starts is not None:
        return functools.partial(
            _flash_documents, bounds=document_bounds(starts), window=window, dtype=dtype
        )
    positions = torch.arange(ids.size(1), device=ids.device)
    first = first_seen(starts, positions, window)
    if ids.is_cuda:
        return functools.partial(flex, blocks=flex_blocks(first.expand_as(ids)), dtype=dtype)
    return functools.partial(masked_attention, mask=visible(first, positions, positions))


def masked_attention(q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
    """Return attention through `scaled_dot_product_attention` under a mask [B or 1, T, S]."""
    shared = k.size(1) != q.size(1)
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask[:, None], enable_gqa=shared)


def flex_blocks(first: Tensor) -> Any:
    """Return FlexAttention's block mask for the earliest position [B, T] that each query sees."""
    from torch.nn.attention.flex_attention import create_block_mask

    def sees(batch: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        return (key <= query) & (key >= first[batch, query])

    batch, length = first.shape
    return create_block_mask(sees, batch, None, length, length, device=str(first.device))


def flex(q: Tensor, k: Tensor, v: Tensor, blocks: Any, dtype: torch.dtype) -> Tensor:
    """Return FlexAttention under a block mask; on CUDA it is compiled, which makes it a kernel."""
    q, k, v = (x.to(dtype) for x in (q, k, v))
    shared = k.size(1) != q.size(1)
    kernel = _compiled_flex() if q.is_cuda and not torch.compiler.is_compiling() else _flex()
    mixed: Tensor = kernel(q, k, v, block_mask=blocks, enable_gqa=shared)
    return mixed


def _flex() -> Callable[..., Any]:
    from torch.nn.attention.flex_attention import flex_attention

    return flex_attention


@functools.cache
def _compiled_flex() -> Callable[..., Any]:
    return torch.compile(_flex())


def _eager(function: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """Return a function that torch.compile leaves alone; itself where there is no FlashAttention."""
    return torch.compiler.disable(function) if flash is not None else function


@_eager
def document_bounds(starts: Tensor) -> Tensor:
    """Return where documents begin in the flattened batch, then its end: int32 [documents + 1 or more].

    starts: as of `document_starts`

    The end is repeated up to a multiple of a 64th of the tokens: empty sequences cost next to nothing,
    and a length that changed with the data would compile the model anew with every batch. Only the GPU
    holds the number of documents, so this waits for it.
    """
    positions = torch.arange(starts.size(1), device=starts.device)
    begins = (starts == positions).flatten().nonzero()[:, 0]
    unit = starts.numel() // 64 + 1
    return F.pad(begins, (0, unit - begins.numel() % unit), value=starts.numel()).int()


def _flash_rows(q: Tensor, k: Tensor, v: Tensor, window: int, dtype: torch.dtype) -> Tensor:
    """Return FlashAttention-3 over whole rows."""
    q, k, v = (x.transpose(1, 2).to(dtype) for x in (q, k, v))
    mixed = flash.flash_attn_func(q, k, v, causal=True, window_size=_flash_window(window))
    return _first(mixed).transpose(1, 2)


def _flash_documents(
    q: Tensor, k: Tensor, v: Tensor, bounds: Tensor, window: int, dtype: torch.dtype
) -> Tensor:
    """Return FlashAttention-3 over documents; bounds are those of `document_bounds`."""
    batch, length = q.size(0), q.size(2)
    q, k, v = (x.transpose(1, 2).flatten(0, 1).to(dtype) for x in (q, k, v))
    mixed = flash.flash_attn_varlen_func(
        q,
        k,
        v,
        cu_seqlens_q=bounds,
        cu_seqlens_k=bounds,
        max_seqlen_q=length,
        max_seqlen_k=length,
        causal=True,
        window_size=_flash_window(window),
    )
    return _first(mixed).unflatten(0, (batch, length)).transpose(1, 2)


def _flash_window(window: int) -> tuple[int, int]:
    return (window - 1, 0) if window else (-1, -1)


def _first(result: Any) -> Tensor:
    """Return the output, which some releases return with the logarithms of the sums."""
    mixed: Tensor = result[0] if isinstance(result, tuple) else result
    return mixed
