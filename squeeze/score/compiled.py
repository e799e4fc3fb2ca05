"""Forwards through torch.compile, on a GPU and where they are repeated often enough to pay for it.

`compiled_states` gives final states of windows, a graph for each width that comes often. What a mode
learns from has any width and number of rows: `flexible` makes one graph of it.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from squeeze.score.plan import Int64, Plan
from squeeze.train.model.attention import Reach, Rule, reach_of
from squeeze.train.model.gpt import GPT

States = Callable[[Tensor], Tensor | None]
DEVICES = ("cuda",)  # where a compilation, half a minute, is soon made up for
OFTEN = 16  # forwards that are worth one
NOWHERE = -1  # no token
LEAST = 2  # rows and columns; torch makes a graph of its own for 1


def compiled_states(model: GPT, plan: Plan, batches: Sequence[Int64]) -> States:
    """Return the function from ids int64 [b, t] to final states [b, t, D], or to None where none pays.

    batches: windows of all forward passes on all ranks, so that the shapes are the same on each

    A width that comes often is one graph: smaller batches are filled up.
    """
    if not pays(model, len(batches)):
        return lambda ids: None
    widths = [int((plan.stop - plan.start)[rows].max()) for rows in batches]
    counts, most = Counter(widths), defaultdict[int, int](int)
    for width, rows in zip(widths, batches, strict=True):
        most[width] = max(most[width], len(rows))
    hidden = torch.compile(model.hidden, dynamic=False)

    def states(ids: Tensor) -> Tensor | None:
        count, width = ids.shape
        if counts[width] < OFTEN or count > most[width]:
            return None
        ids = F.pad(ids, (0, 0, 0, most[width] - count))
        reach = model.reach(ids)
        if reach.bounds is not None:
            torch._dynamo.mark_dynamic(reach.bounds, 0)
        final: Tensor = hidden(ids, None, reach)
        return final[:count]

    return states


def pays(model: GPT, forwards: int) -> bool:
    """Return whether so many forwards of a model, on all ranks, are worth a compilation."""
    own = isinstance(model, GPT)  # a stranger's module is run as it is
    return own and model.tok_emb.weight.device.type in DEVICES and forwards >= OFTEN


def flexible(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Return a function compiled as one graph, which the sizes that `free_` marks do not change."""
    compiled: Callable[..., Tensor] = torch.compile(function, dynamic=False, fullgraph=True)
    return compiled


def free_(tensor: Tensor, *axes: int) -> Tensor:
    """Mark the sizes of axes as varying, for the graph that the tensor goes into; return it."""
    for axis in axes:
        torch._dynamo.mark_dynamic(tensor, axis)
    return tensor


def free_reach(model: GPT, ids: Tensor, documents: bool) -> Reach:
    """Return what the queries of ids int64 [B, T] see, in a form that one graph takes for any B and T.

    documents: whether a row may hold several; they are apart anyway where it is one
    """
    config = model.config
    apart = documents and config.document_attention
    if not apart and not config.attention_window:
        return Reach()
    bos_id = config.bos_id if apart else NOWHERE
    rule = Rule(bos_id, documents=True, window=config.attention_window, blocks=False)
    reach = reach_of(rule, ids, model.stream_dtype())
    if reach.bounds is not None:
        return Reach(free_(reach.bounds, 0))
    assert reach.mask is not None
    return Reach(mask=free_(reach.mask, 0, 1, 2))
