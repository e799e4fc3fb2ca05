"""FlexAttention, which skips the blocks of a mask (J. Dong et al., arXiv 2412.05496)."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

SIDE = 128  # queries and keys of a block


def flex_blocks(first: Tensor) -> Any:
    """Return FlexAttention's block mask for the earliest position [B, T] that each query sees.

    first: never falls along a row, and is no later than the query

    Blocks are judged by their corners: torch would write all T² pairs out, 10 GB for a row of #1855.
    """
    from torch.nn.attention.flex_attention import BlockMask

    def sees(batch: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        return (key <= query) & (key >= first[batch, query])

    length = first.size(1)
    begins = torch.arange(0, length, SIDE, device=first.device)
    ends = (begins + SIDE).clamp(max=length) - 1
    earliest, latest = first[:, begins, None], first[:, ends, None]
    seen = (begins <= ends[:, None]) & (ends >= earliest)
    whole = (ends <= begins[:, None]) & (begins >= latest)
    whole &= begins[:, None] <= length - SIDE
    count, indices = _listed(seen & ~whole)
    whole_count, whole_indices = _listed(whole)
    return BlockMask.from_kv_blocks(
        count,
        indices,
        whole_count,
        whole_indices,
        BLOCK_SIZE=SIDE,
        mask_mod=sees,
        seq_lengths=(length, length),
    )


def _listed(blocks: Tensor) -> tuple[Tensor, Tensor]:
    """Return how many blocks bool [B, q, k] of a row are True, and which, those first: int32."""
    rows = blocks[:, None].int()
    return rows.sum(-1).int(), rows.argsort(dim=-1, descending=True, stable=True).int()


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
