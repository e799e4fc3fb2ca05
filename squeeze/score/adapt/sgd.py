"""Plain SGD on all weights of a model, for text that has been scored."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch

from squeeze.score.adapt.lora import check_range
from squeeze.score.plan import Int64, Plan
from squeeze.score.tokenizer import Tokens
from squeeze.score.window import batch_outputs, cross_entropy, read_batch
from squeeze.train.model.gpt import GPT

RANGES = (
    ("chunk", 1, 1 << 30),
    ("lr", 0.0, 1e3),
    ("momentum", 0.0, 0.999999),
    ("epochs", 0, 1000),
    ("clip", 1e-12, 1e12),
)


@dataclass(frozen=True)
class SgdOptions:
    """Momentum SGD over chunks of text, the step size falling from lr to 0 on a cosine.

    chunk: tokens learnt from in one step. epochs: steps on each chunk. clip: largest norm of a
    gradient.
    """

    chunk: int = 32_768  # tokens
    lr: float = 0.005
    momentum: float = 0.9
    epochs: int = 3
    clip: float = 1.0

    def __post_init__(self) -> None:
        for name, low, high in RANGES:
            check_range(name, getattr(self, name), low, high)

    def chunks(self, outputs: int) -> int:
        """Chunks of `outputs` outputs; the last one may be short."""
        return -(-outputs // self.chunk)

    def rate(self, chunk: int, chunks: int) -> float:
        """Step size on a chunk of several."""
        return self.lr * 0.5 * (1.0 + math.cos(math.pi * chunk / max(1, chunks - 1)))


class Sgd:
    """Learns a model's weights in place; the momentum lasts as long as this object."""

    def __init__(self, model: GPT, options: SgdOptions) -> None:
        self.model, self.options = model, options
        self._weights = [weight.requires_grad_() for weight in model.parameters()]
        self._optimizer = torch.optim.SGD(
            self._weights, lr=options.lr, momentum=options.momentum, foreach=False
        )

    def learn_(self, tokens: Tokens | Int64, plan: Plan, rate: float) -> None:
        """`epochs` steps of size `rate`, each on the mean loss of all outputs of a plan.

        A step is summed over passes that fit the memory of scoring; how many does not change it
        beyond rounding.
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
        """Sum of the losses of the windows `rows`, nats."""
        read, targets, wanted = read_batch(tokens, plan, rows)
        device = self._weights[0].device
        hidden = self.model.hidden(torch.from_numpy(read).to(device))
        hidden = hidden[:, -targets.shape[1] :][torch.from_numpy(wanted).to(device)]
        losses = cross_entropy(
            self.model.head(hidden[None])[0],
            torch.from_numpy(np.ascontiguousarray(targets[wanted])).to(device),
        )
        return losses.sum()
