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
import torch.nn.functional as F
from torch import Tensor, nn

from squeeze.score.adapt.options import LoraOptions
from squeeze.score.compiled import LEAST, flexible, free_, free_reach
from squeeze.score.window import cross_entropy
from squeeze.train.model.attention import Reach
from squeeze.train.model.gpt import GPT

Factors = dict[str, tuple[Tensor, Tensor]]  # A and B by target

CPU_ROOM, CUDA_ROOM = 1 << 13, 1 << 17  # positions


class Targets:
    """Modules of a model whose outputs take additions, and the forward with them.

    compiled: whether forwards are compiled; all of them are one graph

    sizes: inputs and outputs by target
    scale: factor of the additions
    """

    def __init__(self, model: GPT, options: LoraOptions, compiled: bool = False) -> None:
        self.model, self.options, self.compiled = model, options, compiled
        self.scale = 1.0 if options.alpha is None else options.alpha / options.rank
        self._modules = {
            name: module
            for name, module in model.named_modules()
            if name.startswith("blocks.") and name.rsplit(".", 1)[-1] in options.targets
        }
        dim = model.config.model_dim
        self.sizes = {name: _size(module, dim) for name, module in self._modules.items()}
        if "head" in options.targets:
            self.sizes["head"] = (dim, model.config.vocab_size)
        self._factors: Factors = {}  # of the documents that are passing
        self._graph = flexible(self._losses) if compiled else self._losses

    @contextlib.contextmanager
    def attached(self) -> Iterator[None]:
        """Add B·A of the documents to the outputs of every target while this is open.

        Meanwhile the weights themselves ask for no gradients, which nobody would read.
        """

        def addition(name: str) -> Callable[[nn.Module, Any, Tensor], Tensor]:
            return lambda module, args, output: output + self._add(name, args[0])

        handles = [
            module.register_forward_hook(addition(name)) for name, module in self._modules.items()
        ]
        trained = [weight for weight in self.model.parameters() if weight.requires_grad]
        for weight in trained:
            weight.requires_grad_(False)
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()
            for weight in trained:
                weight.requires_grad_()

    def head(self, hidden: Tensor) -> Tensor:
        """Return the logits of hidden [documents, T, D], as `GPT.head` but adapted."""
        return self.model.head(hidden, self._add("head", hidden) if "head" in self.sizes else None)

    def losses(self, ids: Tensor, targets: Tensor, factors: Factors) -> Tensor:
        """Return nats [documents, t] of targets after the last t of ids [documents, T].

        factors: of these documents; those of the last call are used by other forwards, too
        """
        if not self.compiled:
            return self._losses(ids, targets, factors, None, _last(ids, targets))
        rows, count = targets.shape
        # a last chunk is filled up, and so is a single document: sizes of 1 would be other graphs
        fill = (0, max(LEAST, self.options.chunk) - count, 0, max(0, LEAST - rows))
        ids, targets = F.pad(ids, fill), F.pad(targets, fill)
        more = (0, 0, 0, 0, 0, fill[3])
        factors = {n: (F.pad(a, more), F.pad(b, more)) for n, (a, b) in factors.items()}
        for factor in (targets, *(factor for pair in factors.values() for factor in pair)):
            free_(factor, 0)
        reach = free_reach(self.model, free_(ids, 0, 1), documents=False)
        before = _last(ids, targets)
        return self._graph(ids, targets, factors, reach, before)[:rows, :count]

    def _losses(
        self, ids: Tensor, targets: Tensor, factors: Factors, reach: Reach | None, before: Tensor
    ) -> Tensor:
        """Return the losses; `before` are the positions int64 [t] in ids before the targets."""
        self._factors = factors
        hidden = self.model.hidden(ids, reach=reach).index_select(1, before)
        return cross_entropy(self.head(hidden), targets)

    def use(self, factors: Factors) -> None:
        """Take the factors of the documents that pass next."""
        self._factors = factors

    def _add(self, name: str, x: Tensor) -> Tensor:
        a, b = self._factors[name]
        return (x @ a.mT) @ b.mT * self.scale


class LoraBank:
    """Factors of B·A for every target and document of a batch.

    documents: their number
    earlier: the bank whose A is kept (`LoraOptions.keep_a`)

    together: documents that pass at a time, at most; 0: as many as fit
    factors: by target, float32 A [documents, rank, in] and B [documents, out, rank]

    B begins at zero, A uniform in ±1/√in and the same for all documents, so that a document's score
    does not depend on its batch.
    """

    def __init__(self, targets: Targets, documents: int, earlier: LoraBank | None = None) -> None:
        self.targets, self.documents = targets, documents
        self.together = 0
        options, device = targets.options, targets.model.tok_emb.weight.device
        generator = torch.Generator().manual_seed(options.seed)
        self.factors: Factors = {}
        for name, (inputs, outputs) in targets.sizes.items():
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
        """Add B·A of all documents to the outputs of every target while this is open."""
        self.targets.use(self.factors)
        with self.targets.attached():
            yield

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
            rows = slice(begin, begin + group)
            some = learning[rows]
            learns = bool(some.any())
            with torch.set_grad_enabled(learns or self.targets.compiled):
                factors = {name: (a[rows], b[rows]) for name, (a, b) in self.factors.items()}
                losses = self.targets.losses(ids[rows], targets[rows], factors)
                if learns:
                    (losses.mean(1) * some).sum().backward(inputs=self._all_factors())
            nats.append(losses.detach())
        self.targets.use(self.factors)
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


def _last(ids: Tensor, targets: Tensor) -> Tensor:
    """Return the last t positions int64 [t] in ids [B, T], for targets [B, t]."""
    length = ids.size(1)
    return torch.arange(length - targets.size(1), length, device=ids.device)


def _room(ids: Tensor) -> int:
    """Return the positions whose activations fit at once: about 2 GB in a model of 8M weights."""
    return CUDA_ROOM if ids.is_cuda else CPU_ROOM


def _size(module: nn.Module, dim: int) -> tuple[int, int]:
    """Return the number of inputs and outputs of a target; sublayers keep the stream's width."""
    if isinstance(module, nn.Linear):
        return module.in_features, module.out_features
    return dim, dim
