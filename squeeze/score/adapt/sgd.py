"""Plain SGD on all weights of a model, for text that has been scored."""

from __future__ import annotations

import numpy as np
import torch

from squeeze.score.adapt.options import SgdOptions
from squeeze.score.plan import Int64, Plan
from squeeze.score.tokenizer import Tokens
from squeeze.score.window import batch_outputs, cross_entropy, read_batch
from squeeze.train.model.gpt import GPT


class Sgd:
    """SGD that changes a model's weights in place; its momentum lasts as long as this object."""

    def __init__(self, model: GPT, options: SgdOptions) -> None:
        self.model, self.options = model, options
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

    def _loss(self, tokens: Tokens | Int64, plan: Plan, rows: Int64) -> torch.Tensor:
        """Return the sum of the losses of the windows `rows`, in nats."""
        read, targets, wanted = read_batch(tokens, plan, rows)
        device = self._weights[0].device
        hidden = self.model.hidden(torch.from_numpy(read).to(device))
        hidden = hidden[:, -targets.shape[1] :][torch.from_numpy(wanted).to(device)]
        losses = cross_entropy(
            self.model.head(hidden[None])[0],
            torch.from_numpy(np.ascontiguousarray(targets[wanted])).to(device),
        )
        return losses.sum()
