"""Plain SGD on all weights of a model, for text that has been scored."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from squeeze.score.adapt.options import SgdOptions
from squeeze.score.compiled import LEAST, flexible, free_, free_reach
from squeeze.score.plan import Int64, Plan
from squeeze.score.tokenizer import Tokens
from squeeze.score.window import batch_outputs, cross_entropy, read_batch
from squeeze.train.model.attention import Reach
from squeeze.train.model.gpt import GPT


class Sgd:
    """SGD that changes a model's weights in place; its momentum lasts as long as this object.

    compiled: whether passes are compiled; all of them are one graph
    """

    def __init__(self, model: GPT, options: SgdOptions, compiled: bool = False) -> None:
        self.model, self.options = model, options
        self._graph = flexible(_wanted_loss) if compiled else None
        self._weights = [weight.requires_grad_() for weight in model.parameters()]
        self._optimizer = torch.optim.SGD(
            self._weights, lr=options.lr, momentum=options.momentum, foreach=False
        )

    def learn_(self, tokens: Tokens | Int64, plan: Plan, rate: float) -> None:
        """Take `epochs` steps of size `rate`, each on the mean loss of all outputs of a plan.

        A step is summed over passes that fit the memory of scoring; how many these are does not
        change it beyond rounding.
        """
        for group in self._optimizer.param_groups:
            group["lr"] = rate
        for _ in range(self.options.epochs):
            self._optimizer.zero_grad(set_to_none=True)
            for rows in plan.batches(batch_outputs(self.model)):
                self._loss(tokens, plan, rows).div(plan.outputs).backward()
            torch.nn.utils.clip_grad_norm_(self._weights, self.options.clip)
            self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)

    def _loss(self, tokens: Tokens | Int64, plan: Plan, rows: Int64) -> Tensor:
        """Return the sum of the losses of the windows `rows`, in nats."""
        arrays, device = read_batch(tokens, plan, rows), self._weights[0].device
        ids, targets, wanted = (torch.from_numpy(array).to(device) for array in arrays)
        if self._graph is None:
            hidden = self.model.hidden(ids)[:, -targets.size(1) :][wanted]
            return cross_entropy(self.model.head(hidden[None])[0], targets[wanted]).sum()
        batch = []
        for each in (ids, targets, wanted):
            fill = (0, max(0, LEAST - each.size(1)), 0, max(0, LEAST - len(each)))
            batch.append(free_(F.pad(each, fill), 0, 1))
        reach = free_reach(self.model, batch[0], documents=True)
        return self._graph(self.model, *batch, reach)


def _wanted_loss(model: GPT, ids: Tensor, targets: Tensor, wanted: Tensor, reach: Reach) -> Tensor:
    """Return the sum of the losses of targets [B, T] after ids [B, T], where they are wanted."""
    losses = cross_entropy(model.head(model.hidden(ids, reach=reach)), targets)
    return torch.where(wanted, losses, 0.0).sum()
