"""Cross-entropy of soft-capped logits that are never whole: chunk by chunk, computed again backward.

For 98,304 tokens and 8,192 pieces the logits and their gradient are 3 GiB each in float32. A chunk of
them lives a moment; between forward and backward only one number a token stays. After the fused
cross-entropy of #1787 and Liger-Kernel (P.-L. Hsu et al., arXiv 2410.10989).
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from squeeze.train.model.operations import capped, row_losses, row_slopes

WHOLE = 1 << 26  # logits up to which they are made whole: 256 MiB
CHUNK = 1 << 25  # logits of a chunk


def capped_loss(hidden: Tensor, weight: Tensor, targets: Tensor, cap: float) -> Tensor:
    """Return the mean cross-entropy in nats, float32 [].

    hidden: final states [N, D]
    weight: of the head [V, D]
    targets: int64 [N]
    cap: bound of the logits, cap·tanh(logits / cap); 0: none
    """
    weight = weight.to(hidden.dtype)
    if len(hidden) * len(weight) > WHOLE:
        loss: Tensor = _Chunked.apply(hidden, weight, targets, cap)
        return loss
    return F.cross_entropy(capped(F.linear(hidden, weight).float(), cap), targets)


class _Chunked(torch.autograd.Function):
    """The mean loss, and its gradient from logits that are computed a second time."""

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, targets: Tensor, cap: float) -> Tensor:
        rows = max(1, CHUNK // len(weight))
        sums, total = [], hidden.new_zeros((), dtype=torch.float32)
        for part, wanted in zip(hidden.split(rows), targets.split(rows), strict=True):
            nats, logsumexp = row_losses(F.linear(part, weight), wanted, cap)
            total = total + nats.sum()
            sums.append(logsumexp)
        ctx.save_for_backward(hidden, weight, targets, torch.cat(sums))
        ctx.cap, ctx.rows = cap, rows
        return total / len(hidden)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None, None]:
        hidden, weight, targets, sums = ctx.saved_tensors
        scale = grad / len(hidden)
        of_hidden, of_weight = [], torch.zeros_like(weight, dtype=torch.float32)
        parts = (x.split(ctx.rows) for x in (hidden, targets, sums))
        for part, wanted, logsumexp in zip(*parts, strict=True):
            slope = row_slopes(F.linear(part, weight), wanted, logsumexp, scale, ctx.cap)
            of_hidden.append(slope @ weight)
            of_weight = of_weight + (slope.mT @ part).float()
        return torch.cat(of_hidden), of_weight.to(weight.dtype), None, None
