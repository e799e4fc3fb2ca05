"""Final states of windows through torch.compile: on a GPU, for the widths that come often."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from squeeze.score.plan import Int64, Plan
from squeeze.train.model.gpt import GPT

States = Callable[[Tensor], Tensor | None]
DEVICES = ("cuda",)  # where a compilation, half a minute, is soon made up for
OFTEN = 16  # batches of a width that are worth one


def compiled_states(model: GPT, plan: Plan, batches: Sequence[Int64]) -> States:
    """Return the function from ids int64 [b, t] to final states [b, t, D], or to None where none pays.

    batches: windows of all forward passes on all ranks, so that the shapes are the same on each

    A width that comes often is one graph: smaller batches are filled up.
    """
    if not isinstance(model, GPT) or model.tok_emb.weight.device.type not in DEVICES:
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
