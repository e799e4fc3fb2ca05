"""Low-rank additions to a model's matrices, one set for each document, learnt while scoring.

LoRA: E. Hu et al., arXiv 2106.09685. At test time, per document: openai/parameter-golf #77; with a
scale of alpha/rank and a first factor that outlives the document: #1767, #1855.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from squeeze.score.adapt.options import LoraOptions
from squeeze.score.window import cross_entropy
from squeeze.train.model.gpt import GPT

CPU_ROOM, CUDA_ROOM = 1 << 13, 1 << 17  # positions


class LoraBank:
    """Factors of B·A for every target and document of a batch.

    documents: their number
    earlier: the bank whose A is kept (`LoraOptions.keep_a`)

    together: documents that pass at a time, at most; 0: as many as fit
    factors: by target, float32 A [documents, rank, in] and B [documents, out, rank]

    B begins at zero, A uniform in ±1/√in and the same for all documents, so that a document's score
    does not depend on its batch.
    """

    def __init__(
        self, model: GPT, options: LoraOptions, documents: int, earlier: LoraBank | None = None
    ) -> None:
        self.model, self.options, self.documents = model, options, documents
        self.together = 0
        self._scale = 1.0 if options.alpha is None else options.alpha / options.rank
        self._modules = {
            name: module
            for name, module in model.named_modules()
            if name.startswith("blocks.") and name.rsplit(".", 1)[-1] in options.targets
        }
        device = model.tok_emb.weight.device
        dim, generator = model.config.model_dim, torch.Generator().manual_seed(options.seed)
        self._rows = slice(None)  # documents that are passing
        self.factors: dict[str, tuple[Tensor, Tensor]] = {}
        sizes = {name: _size(module, dim) for name, module in self._modules.items()}
        if "head" in options.targets:
            sizes["head"] = (dim, model.config.vocab_size)
        for name, (inputs, outputs) in sizes.items():
            bound = 1.0 / math.sqrt(inputs)
            start = torch.empty(options.rank, inputs).uniform_(-bound, bound, generator=generator)
            a = start.expand(documents, -1, -1).clone()
            if earlier is not None:
                learnt = earlier.factors[name][0].detach()[:documents]
                a[: len(learnt)] = learnt.cpu()
            b = torch.zeros(documents, outputs, options.rank)
            self.factors[name] = (a.to(device).requires_grad_(), b.to(device).requires_grad_())
        self._optimizer = torch.optim.AdamW(
            self._all_factors(),
            lr=options.lr,
            betas=(options.beta1, options.beta2),
            eps=options.eps,
            weight_decay=options.weight_decay,
        )

    @contextlib.contextmanager
    def attached(self) -> Iterator[None]:
        """Add B·A of the documents to the outputs of every target while this is open."""

        def addition(name: str) -> Callable[[nn.Module, Any, Tensor], Tensor]:
            return lambda module, args, output: output + self._add(name, args[0])

        handles = [
            module.register_forward_hook(addition(name)) for name, module in self._modules.items()
        ]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def head(self, hidden: Tensor) -> Tensor:
        """Return the logits of hidden [documents, T, D], as `GPT.head` but adapted."""
        return self.model.head(
            hidden, self._add("head", hidden) if "head" in self.factors else None
        )

    def losses(self, ids: Tensor, targets: Tensor, learning: Tensor) -> Tensor:
        """Return nats [documents, t] of targets [documents, t] after the last t of ids [documents, T].

        learning: bool [documents], those that learn from the targets

        The gradient of the sum of their mean losses is left for `step_`: a sum, so that no document
        changes another. A few documents pass at a time. Only while `attached`.
        """
        group = max(1, _room(ids) // ids.size(1))
        group = min(group, self.together or group)
        nats = []
        for begin in range(0, len(ids), group):
            self._rows = slice(begin, begin + group)
            some = learning[self._rows]
            with torch.set_grad_enabled(bool(some.any())):
                hidden = self.model.hidden(ids[self._rows])[:, -targets.size(1) :]
                losses = cross_entropy(self.head(hidden), targets[self._rows])
                if some.any():
                    (losses.mean(1) * some).sum().backward(inputs=self._all_factors())
            nats.append(losses.detach())
        self._rows = slice(None)
        return torch.cat(nats)

    def step_(self) -> None:
        """Take one step of AdamW with the gradients of the last `losses`.

        Documents that have ended take it with a gradient of zero, also where no other is left.
        """
        for factor in self._all_factors():
            if factor.grad is None:
                factor.grad = torch.zeros_like(factor)
        self._optimizer.step()
        self._optimizer.zero_grad()

    def _all_factors(self) -> list[Tensor]:
        return [factor for pair in self.factors.values() for factor in pair]

    def _add(self, name: str, x: Tensor) -> Tensor:
        a, b = (factor[self._rows] for factor in self.factors[name])
        return (x @ a.mT) @ b.mT * self._scale


def _room(ids: Tensor) -> int:
    """Return the positions whose activations fit at once: about 2 GB in a model of 8M weights."""
    return CUDA_ROOM if ids.is_cuda else CPU_ROOM


def _size(module: nn.Module, dim: int) -> tuple[int, int]:
    """Return the number of inputs and outputs of a target; sublayers keep the stream's width."""
    if isinstance(module, nn.Linear):
        return module.in_features, module.out_features
    return dim, dim
