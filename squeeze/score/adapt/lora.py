"""Low-rank additions to a model's matrices, one set for each document of a batch, learnt while scoring.

LoRA: E. Hu et al., arXiv 2106.09685. At test time, per document: openai/parameter-golf #77; with a
scale of alpha/rank and a first factor that outlives the document: #1767, #1855.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from squeeze.errors import BadConfig
from squeeze.score.window import cross_entropy
from squeeze.train.fields import VALIDATING
from squeeze.train.model.gpt import GPT

MODULES = ("c_q", "c_k", "c_v", "attn", "mlp")  # what can be added to, besides the head
CPU_ROOM, CUDA_ROOM = 1 << 13, 1 << 17
RANGES = (  # bounds keep a mistyped value from asking for a giant allocation
    ("chunk", 1, 1 << 20),
    ("length", 1, 1 << 20),
    ("rank", 1, 1 << 12),
    ("batch", 1, 1 << 16),
    ("alpha", 0.0, 1e6),
    ("lr", 0.0, 1e3),
    ("beta1", 0.0, 0.999999),
    ("beta2", 0.0, 0.999999),
    ("eps", 0.0, 1.0),
    ("weight_decay", 0.0, 1e3),
)


@dataclass(frozen=True)
class LoraOptions:
    """How documents are adapted to; the defaults are #77's.

    chunk, length: tokens scored between two steps, and tokens read at once. targets: `head`, and
    modules of every block: c_q, c_k, c_v (matrices), attn, mlp (whole sublayers, #1855's O and MLP).
    alpha: additions are multiplied by alpha/rank; None: by 1. keep_a: the first factor stays as it
    was learnt when a batch ends, and only the second is zeroed.
    """

    chunk: int = 256  # tokens
    length: int = 1024  # tokens
    rank: int = 8
    alpha: float | None = None
    targets: tuple[str, ...] = ("head", "c_q", "c_v")
    lr: float = 0.01
    beta1: float = 0.9
    beta2: float = 0.95
    eps: float = 1e-8
    weight_decay: float = 0.0  # decoupled (AdamW)
    batch: int = 64  # documents
    keep_a: bool = False
    seed: int = 0  # of the first factor

    def __post_init__(self) -> None:
        if VALIDATING:
            _check(self)

    def window_start(self, output: int) -> int:
        """First token of the window that predicts after token `output` of a document.

        The window ends with its chunk: it depends on nothing after that token, not even on whether
        the document goes on.
        """
        return max(0, (output // self.chunk + 1) * self.chunk - self.length)


def _check(options: LoraOptions) -> None:
    for name, low, high in RANGES:
        check_range(name, getattr(options, name), low, high)
    if options.chunk > options.length:
        raise BadConfig(
            "test-time chunk", expected=f"≤ the length, {options.length}", found=options.chunk
        )
    unknown = sorted(set(options.targets) - {"head", *MODULES})
    if unknown or not options.targets:
        raise BadConfig(
            "test-time targets", expected=f"of head, {', '.join(MODULES)}", found=unknown
        )


class LoraBank:
    """B·A for every target, float32 A [documents, rank, in] and B [documents, out, rank].

    B begins at zero, A uniform in ±1/√in and the same for all documents, so that a document's score
    does not depend on its batch. earlier: the bank whose A is kept (`LoraOptions.keep_a`).
    """

    def __init__(
        self, model: GPT, options: LoraOptions, documents: int, earlier: LoraBank | None = None
    ) -> None:
        self.model, self.options, self.documents = model, options, documents
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
                kept = earlier.factors[name][0].detach()[:documents]
                a[: len(kept)] = kept.cpu()
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
        """While open, every target of the model adds its documents' B·A to what it computes."""

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
        """`GPT.head` of hidden [documents, T, D], adapted."""
        return self.model.head(
            hidden, self._add("head", hidden) if "head" in self.factors else None
        )

    def losses(self, ids: Tensor, targets: Tensor, learning: Tensor) -> Tensor:
        """Nats [documents, t] of targets [documents, t] after the last t of ids [documents, T].

        learning: bool [documents]. The gradient of the sum of their mean losses is left for `step_`:
        a sum, so that no document feels another. A few documents pass at a time. Only while
        `attached`.
        """
        group = max(1, _room(ids) // ids.size(1))
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
        """One step of AdamW with the gradients of the last `losses`."""
        self._optimizer.step()
        self._optimizer.zero_grad()

    def _all_factors(self) -> list[Tensor]:
        return [factor for pair in self.factors.values() for factor in pair]

    def _add(self, name: str, x: Tensor) -> Tensor:
        a, b = (factor[self._rows] for factor in self.factors[name])
        return (x @ a.mT) @ b.mT * self._scale


def check_range(name: str, value: float | None, low: float, high: float) -> None:
    """Raise BadConfig unless an option of test-time training is None or in low…high."""
    if value is not None and not low <= value <= high:
        raise BadConfig(f"test-time {name}", expected=f"{low:g} to {high:g}", found=value)


def _room(ids: Tensor) -> int:
    """Positions whose activations may be kept at once: about 2 GB in a model of 8M weights."""
    return CUDA_ROOM if ids.is_cuda else CPU_ROOM


def _size(module: nn.Module, dim: int) -> tuple[int, int]:
    """Inputs and outputs of a target; sublayers keep the width of the stream."""
    if isinstance(module, nn.Linear):
        return module.in_features, module.out_features
    return dim, dim
