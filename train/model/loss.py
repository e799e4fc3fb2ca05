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


def capped(logits: Tensor, cap: float) -> Tensor:
    """Return cap·tanh(logits / cap), in the place of logits float32; the logits themselves for 0."""
    return cap * torch.tanh(logits.div_(cap)) if cap else logits


class _Chunked(torch.autograd.Function):
    """The mean loss, and its gradient from logits that are computed a second time."""

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, targets: Tensor, cap: float) -> Tensor:
        rows = max(1, CHUNK // len(weight))
        sums, total = [], hidden.new_zeros((), dtype=torch.float32)
        for part, wanted in zip(hidden.split(rows), targets.split(rows), strict=True):
            logits = capped(F.linear(part, weight).float(), cap)
            logsumexp = logits.logsumexp(-1)
            total = total + (logsumexp - logits.gather(-1, wanted[:, None])[:, 0]).sum()
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
            logits = capped(F.linear(part, weight).float(), ctx.cap)
            slope = (logits - logsumexp[:, None]).exp()
            slope = slope.scatter_add(-1, wanted[:, None], torch.full_like(slope[:, :1], -1.0))
            if ctx.cap:
                slope = slope * (1.0 - (logits / ctx.cap).square())
            slope = (slope * scale).to(part.dtype)
            of_hidden.append(slope @ weight)
            of_weight = of_weight + (slope.mT @ part).float()
        return torch.cat(of_hidden), of_weight.to(weight.dtype), None, None
