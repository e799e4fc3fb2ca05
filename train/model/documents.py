"""Documents in a batch of tokens: where they begin, and what a query sees of them."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

UNIT = 64  # lengths of bounds are multiples of it


def document_starts(ids: Tensor, bos_id: int, cut: int = 0) -> Tensor:
    """Return, for each token, the position int64 [B, T] where its document begins in its row.

    ids: int64 [B, T]; `bos_id` begins a document, and so does a row
    cut: tokens after which a document is begun anew, as often as it is longer; 0: never
    """
    positions = torch.arange(ids.size(1), device=ids.device)
    starts = torch.where(ids == bos_id, positions, 0).cummax(1).values
    return starts + (positions - starts) // cut * cut if cut else starts


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


def document_bounds(starts: Tensor) -> Tensor:
    """Return where documents begin in the flattened batch, then its end: int32 [a multiple of 64].

    starts: as of `document_starts`, on the CPU: only there the number of documents is known at once

    The end is repeated up to the length: empty sequences cost next to nothing, and FlashAttention-3
    plans its work well for up to 992 sequences (#1855 has multiples of 64, too).
    """
    positions = torch.arange(starts.size(1), device=starts.device)
    begins = (starts == positions).flatten().nonzero()[:, 0]
    return F.pad(begins, (0, UNIT - begins.numel() % UNIT), value=starts.numel()).int()
