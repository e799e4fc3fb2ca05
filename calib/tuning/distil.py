"""Distillation: what is still float in a model learns to answer as the model did before any rounding.

The loss is the divergence from the first model's answers on calibration text, which needs no labels; of
real text the next tokens may have a share in it. Batches are whole sequences; a block of them is run by
one thread and gradients are added in the order of the blocks, so that the result does not depend on the
number of threads.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from squeeze.calib.parallel import map_single_threaded, one_thread
from squeeze.calib.statistics.divergence import Divergence
from squeeze.calib.statistics.tapped import Rows, blocks_of, ids_of
from squeeze.calib.text.sources import Sequences
from squeeze.calib.tuning.answers import Answers, Forward
from squeeze.errors import BadData
from squeeze.reporter import SILENT, Reporter

BETAS, EPS = (0.9, 0.95), 1e-12  # gradients of a divergence near zero are tiny
BLOCK = 512  # tokens that one thread runs at a time; two threads share an update
# Updates, and share of all, over which their size grows to the full: the first ones know hardly more
# of a gradient than its sign, and it takes many to make up for them (docs/log.md).
WARM_UP, WARM_SHARE = 12, 0.25


@dataclass(frozen=True)
class Trained:
    """A tensor that learns, and the largest size of a step in it."""

    parameter: nn.Parameter
    rate: float


@dataclass(frozen=True)
class Course:
    """Length of a distillation.

    steps: number of updates
    tokens: of a batch, rounded down to whole sequences
    seed: orders the sequences
    """

    steps: int
    tokens: int = 1024
    seed: int = 0

    def size(self, step: int) -> float:
        """Return the share of the largest size that an update has, the first being number 0.

        >>> course = Course(8)
        >>> [course.size(step) for step in range(course.steps)]
        [0.5, 0.875, 0.75, 0.625, 0.5, 0.375, 0.25, 0.125]
        """
        warm = max(1.0, min(WARM_UP, WARM_SHARE * self.steps))
        return min(1.0, (step + 1) / warm) * (1 - step / self.steps)


@dataclass(frozen=True)
class Learnt:
    """Gain of a distillation.

    first: divergence in nats per token of the first batch, before anything was learnt
    last: mean over the last tenth of the updates, each measured before its update
    """

    first: float = 0.0
    last: float = 0.0

    @classmethod
    def of(cls, losses: Sequence[float]) -> Learnt:
        """Return the gain of updates with these divergences."""
        tenth = max(1, len(losses) // 10)
        return cls(losses[0], float(np.mean(losses[-tenth:])))


def distil_(
    right: Answers,
    wrong: Forward,
    trained: Sequence[Trained],
    divergence: Divergence,
    course: Course,
    hold: Callable[[], None] = lambda: None,
    labels: float = 0.0,
    reporter: Reporter = SILENT,
) -> Learnt:
    """Train parameters in place until `wrong` answers as `right` does.

    right: answers of the first model to the text
    wrong: forward of the model that has the parameters
    hold: called after each update; puts weights back that a parameter shares but must not change
    labels: share in the loss of the cross-entropy of the text's next tokens
    reporter: counts updates

    Raises BadData where the divergence is not a number.
    """
    parameters = [each.parameter for each in trained]
    groups = [{"params": [each.parameter], "lr": each.rate} for each in trained]
    optimizer = torch.optim.Adam(groups, betas=BETAS, eps=EPS, fused=True)
    text = right.text
    device = parameters[0].device
    losses = []

    def gradients_of(rows: Rows) -> tuple[float, list[Tensor]]:
        ids = ids_of(text, rows, device)
        answer = right.to(rows, device)
        with torch.enable_grad():
            outputs = wrong(ids).float()
            diverging = divergence.between(answer.flatten(0, 1), outputs.flatten(0, 1)).sum()
            loss = diverging
            if labels:
                next_tokens = outputs[:, :-1].flatten(0, 1), ids[:, 1:].flatten()
                loss = (1 - labels) * loss + labels * F.cross_entropy(*next_tokens, reduction="sum")
            gradients = torch.autograd.grad(loss, parameters, allow_unused=True)
        filled = zip(gradients, parameters, strict=True)
        return float(diverging.detach()), [
            torch.zeros_like(p) if g is None else g for g, p in filled
        ]

    for step, rows in zip(range(course.steps), _batches(text, course), strict=False):
        counted = len(rows) * text.length
        total = 0.0
        sums = [torch.zeros_like(p) for p in parameters]
        blocks = blocks_of(text, rows, BLOCK)
        for loss, gradients in map_single_threaded(gradients_of, blocks, device):
            total += loss / counted
            torch._foreach_add_(sums, gradients, alpha=1.0 / counted)
        if not np.isfinite(total):
            raise BadData(
                "the model being tuned gives outputs that are not numbers",
                expected="a finite divergence",
                found=total,
                fix="Tune fewer steps, or raise --limit.",
            )
        losses.append(total)
        for group, each, gradient in zip(optimizer.param_groups, trained, sums, strict=True):
            each.parameter.grad = gradient
            group["lr"] = each.rate * course.size(step)
        with one_thread():
            optimizer.step()
        hold()
        reporter.advance(1)
    for parameter in parameters:
        parameter.grad = None
    return Learnt.of(losses) if losses else Learnt()


def _batches(text: Sequences, course: Course) -> Iterator[Rows]:
    """Yield the sequences of each batch, all of them before any comes again."""
    random = np.random.default_rng(course.seed)
    size = max(1, min(len(text.ids), course.tokens // text.length))
    while True:
        order = random.permutation(len(text.ids))
        for first in range(0, len(order) - size + 1, size):
            yield order[first : first + size]
