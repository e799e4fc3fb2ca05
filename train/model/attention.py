"""Causal attention that can keep to documents and to a sliding window: one interface, four kernels.

`reach_of` looks at a batch once, before the forward and outside what is compiled; `attention_within`
returns the function that every layer calls.
Nothing of size T×T is made when neither documents nor a window are asked for. Otherwise
FlashAttention-3 reads documents as sequences of varying length (J. Shah et al., arXiv 2407.08608),
FlexAttention skips blocks of a mask (J. Dong et al., arXiv 2412.05496), and elsewhere
`scaled_dot_product_attention` gets the mask whole. `plain_attention` is what all of them must equal.
"""

from __future__ import annotations

import functools
import importlib
import math
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from squeeze.train.model.config import ModelConfig
from squeeze.train.model.documents import document_bounds, document_starts, first_seen, visible
from squeeze.train.model.flex import flex, flex_blocks

Attend = Callable[[Tensor, Tensor, Tensor], Tensor]

flash: Any = None
with suppress(ImportError):  # optional, and made for one release of torch
    flash = importlib.import_module("flash_attn_interface")

HOPPER = 9  # generation of the GPUs whose instructions FlashAttention-3 is written in
HALVES = (torch.float16, torch.bfloat16)
# Tokens up to which a CPU trains faster with the scores written out (docs/log.md).
SHORT, SHORT_HALVES = 256, 512


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
    short = SHORT_HALVES if q.dtype in HALVES else SHORT
    if q.device.type == "cpu" and q.size(2) <= short and torch.is_grad_enabled():
        return short_attention(q, k, v)
    k, v, shared = grouped(q, k, v)
    return F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=shared)


def grouped(q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor, bool]:
    """Return keys and values for `scaled_dot_product_attention`, and whether it shares their heads.

    Only the kernels of 16 bits do that on a GPU; with others torch would write out all scores.
    """
    if k.size(1) == q.size(1) or not q.is_cuda or q.dtype in HALVES:
        return k, v, k.size(1) != q.size(1)
    group = q.size(1) // k.size(1)
    return k.repeat_interleave(group, 1), v.repeat_interleave(group, 1), False


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


class Reach(NamedTuple):
    """Positions that the queries of a batch see, made before the forward; empty: all earlier ones.

    bounds: where sequences begin in the flattened batch, then its end, int32 (`document_bounds`)
    longest: tokens of a sequence, at most
    mask: bool [B or 1, T, T], True where a query sees a key
    blocks: FlexAttention's block mask
    """

    bounds: Tensor | None = None
    longest: int = 0
    mask: Tensor | None = None
    blocks: Any = None


def attention_for(config: ModelConfig, ids: Tensor, dtype: torch.dtype) -> Attend:
    """Return the attention over ids int64 [B, T] that a model's configuration asks for.

    It is for a forward that is not compiled, where FlexAttention would be compiled by itself.
    """
    window = config.attention_window
    if not (config.document_attention or window):
        return whole_attention(0, ids, dtype)
    rule = Rule(config.bos_id, config.document_attention, window, blocks=False)
    return attention_within(reach_of(rule, ids, dtype), window, ids, dtype)


def reach_for(
    config: ModelConfig, ids: Tensor, dtype: torch.dtype, host: Tensor | None = None, cut: int = 0
) -> Reach:
    """Return what the queries of ids int64 [B, T] see under a model's configuration.

    dtype: of queries, keys and values
    host: the same ids in the memory of the CPU; without them a GPU is waited for
    cut: tokens after which a document is begun anew; 0: never
    """
    documents, window = config.document_attention, config.attention_window
    if not documents and not window:
        return Reach()
    rule = Rule(config.bos_id, documents=documents, window=window, cut=cut)
    return reach_of(rule, ids, dtype, host)


@dataclass(frozen=True)
class Rule:
    """Tokens that queries see: those of their own document, and of a window that ends with themselves.

    documents: tokens of other documents are hidden
    window: tokens that a query sees, itself included; 0: no limit
    cut: tokens after which a document is begun anew; 0: never
    blocks: whether FlexAttention may be chosen on a GPU
    """

    bos_id: int
    documents: bool
    window: int = 0
    cut: int = 0
    blocks: bool = True


def reach_of(rule: Rule, ids: Tensor, dtype: torch.dtype, host: Tensor | None = None) -> Reach:
    """Return what the queries of ids int64 [B, T] see; arguments as of `reach_for`."""
    length, window = ids.size(1), rule.window
    flashes = runs_flash(ids, dtype)
    if not rule.documents and (flashes or not window or window >= length):
        return Reach()
    if flashes:
        starts = document_starts(ids.cpu() if host is None else host, rule.bos_id, rule.cut)
        bounds = document_bounds(starts)
        bounds = bounds.pin_memory() if torch.cuda.is_available() else bounds
        return Reach(bounds.to(ids.device, non_blocking=True), min(rule.cut or length, length))
    positions = torch.arange(length, device=ids.device)
    inside = document_starts(ids, rule.bos_id, rule.cut) if rule.documents else None
    first = first_seen(inside, positions, window)
    if ids.is_cuda and rule.blocks:
        return Reach(blocks=flex_blocks(first.expand_as(ids)))
    return Reach(mask=visible(first, positions, positions))


def attention_within(reach: Reach, window: int, ids: Tensor, dtype: torch.dtype) -> Attend:
    """Return causal attention for ids int64 [B, T] within their reach.

    window: tokens that a query sees, itself included; 0: no limit
    dtype: of queries, keys and values; FlashAttention needs 16 bits
    """
    if reach.bounds is not None:
        return functools.partial(
            _flash_documents,
            bounds=reach.bounds,
            longest=reach.longest,
            window=window,
            dtype=dtype,
        )
    if reach.blocks is not None:
        return functools.partial(flex, blocks=reach.blocks, dtype=dtype)
    if reach.mask is not None:
        return functools.partial(masked_attention, mask=reach.mask)
    return whole_attention(window, ids, dtype)


def whole_attention(window: int, ids: Tensor, dtype: torch.dtype) -> Attend:
    """Return causal attention within whole rows of ids; arguments as of `attention_within`.

    Only FlashAttention reads a window here, which is no mask of its own.
    """
    if runs_flash(ids, dtype):
        narrow = window if window and window < ids.size(1) else 0
        return functools.partial(_flash_rows, window=narrow, dtype=dtype)
    return causal_attention


def runs_flash(ids: Tensor, dtype: torch.dtype) -> bool:
    """Return whether FlashAttention-3 is here and computes on the device of ids, in this type."""
    if flash and ids.is_cuda and dtype in HALVES:
        return torch.cuda.get_device_properties(ids.device).major == HOPPER
    return False


def masked_attention(q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
    """Return attention through `scaled_dot_product_attention` under a mask [B or 1, T, S]."""
    k, v, shared = grouped(q, k, v)
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask[:, None], enable_gqa=shared)


def _flash_rows(q: Tensor, k: Tensor, v: Tensor, window: int, dtype: torch.dtype) -> Tensor:
    """Return FlashAttention-3 over whole rows."""
    q, k, v = (x.transpose(1, 2).to(dtype) for x in (q, k, v))
    mixed = flash.flash_attn_func(q, k, v, causal=True, window_size=_flash_window(window))
    return _first(mixed).transpose(1, 2)


def _flash_documents(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    bounds: Tensor,
    longest: int,
    window: int,
    dtype: torch.dtype,
) -> Tensor:
    """Return FlashAttention-3 over documents; bounds and longest are those of `Reach`."""
    batch = q.size(0)
    q, k, v = (x.transpose(1, 2).flatten(0, 1).to(dtype) for x in (q, k, v))
    mixed = flash.flash_attn_varlen_func(
        q,
        k,
        v,
        cu_seqlens_q=bounds,
        cu_seqlens_k=bounds,
        max_seqlen_q=longest,
        max_seqlen_k=longest,
        causal=True,
        window_size=_flash_window(window),
    )
    return _first(mixed).unflatten(0, (batch, -1)).transpose(1, 2)


def _flash_window(window: int) -> tuple[int, int]:
    return (window - 1, 0) if window else (-1, -1)


def _first(result: Any) -> Tensor:
    """Return the output, which some releases return with the logarithms of the sums."""
    mixed: Tensor = result[0] if isinstance(result, tuple) else result
    return mixed
