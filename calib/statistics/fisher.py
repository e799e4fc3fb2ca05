"""Sensitivity of the loss to each output of each matrix: mean squared gradients of the model's loss.

The second derivative of KL(model ‖ changed model) is the Fisher information: the mean outer product
of the gradients of log p(y), y drawn from the model itself (J. Martens, arXiv 1412.1193). Kronecker
factored (K-FAC, arXiv 1503.05671) it is H ⊗ G for a matrix, G = E[g gᵀ] with g the derivatives of
log p by the outputs. A few thousand tokens suffice; see docs/log.md.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from squeeze.calib.parallel import map_single_threaded, replicas
from squeeze.calib.statistics.hessian import Float32, read_arrays, write_arrays
from squeeze.calib.text.sources import Sequences
from squeeze.errors import BadCheckpoint, CorruptData
from squeeze.ranks.group import Ranks
from squeeze.reporter import SILENT, Reporter

TOKENS = 16_384
WIDEST = 1024  # outputs up to which all of G is kept: beyond, rows are hardly correlated
BLOCK = 1024  # tokens of one backward: about half a megabyte of activations each at 36M weights
IN_FLIGHT = 4096  # tokens whose activations are held at a time, however many threads there are
EMBEDDING, HEAD = "tok_emb", "lm_head"


class Config(Protocol):
    """Configuration of a model: the two fields that are read here."""

    @property
    def logit_softcap(self) -> float: ...
    @property
    def tie_embeddings(self) -> bool: ...


class Model(Protocol):
    """Model whose gradients are collected, such as `squeeze.train.model.gpt.GPT`."""

    config: Any

    def __call__(self, ids: Tensor) -> Tensor:
        """Return capped logits [B, T, V] for ids int64 [B, T]."""

    def named_modules(self) -> Iterator[tuple[str, nn.Module]]: ...
    def parameters(self) -> Iterator[nn.Parameter]: ...


@dataclass(frozen=True)
class OutputGradients:
    """Second moments of the gradients at the outputs, by tensor name, per token, in nats².

    rows: mean squares, float32 [out]
    products: mean outer products, of which `rows` are the diagonal, float32 [out, out]; only of layers
        of at most WIDEST outputs
    tokens: number of tokens they were collected on
    source: origin of the text

    A layer that runs several times adds all its passes. A tied embedding has its head's gradients plus
    those of its lookups, in the unit in which the head's Hessian weighs them; other tables (an untied
    embedding, hashed pairs, value embeddings) have those of their lookups per element, to be used with
    the identity as Hessian.
    """

    rows: dict[str, Float32] = field(repr=False)
    products: dict[str, Float32] = field(repr=False)
    tokens: int
    source: str = ""

    def best(self, name: str) -> Float32:
        """Return the outer products of a tensor where there are any, else its squares."""
        return self.products.get(name, self.rows[name])

    def save(self, path: Path, key: str = "") -> None:
        """Write a safetensors file atomically."""
        arrays = {name: self.best(name) for name in self.rows}
        write_arrays(path, arrays, key, {"tokens": self.tokens, "source": self.source})

    @classmethod
    def load(cls, path: Path, key: str = "") -> OutputGradients:
        """Read a file of `save`. Raises CorruptData when it is damaged or of another key."""
        arrays, facts = read_arrays(path, key)
        products = {name: array for name, array in arrays.items() if array.ndim == 2}
        rows = {n: products[n].diagonal().copy() if n in products else a for n, a in arrays.items()}
        try:
            return cls(rows, products, int(facts["tokens"]), str(facts["source"]))
        except (KeyError, TypeError, ValueError):
            raise CorruptData(f"{path}: not a file of output gradients") from None


def collect_gradients(
    model: Model,
    text: Sequences,
    *,
    tokens: int = TOKENS,
    seed: int = 0,
    reporter: Reporter = SILENT,
) -> OutputGradients:
    """Run the first sequences of the text, about `tokens` tokens, forward and backward.

    seed: of the targets, which are drawn from the model
    reporter: counts the tokens of this rank

    Ranks take sequences in turn and add up. The gradients of the weights themselves are never formed.

    Raises BadCheckpoint naming the tensor whose gradient is NaN or infinite.
    """
    wanted = max(1, int(np.searchsorted(np.cumsum(text.lengths), tokens)) + 1)
    chosen = np.arange(min(wanted, len(text.lengths)))
    counted = int(text.lengths[chosen].sum())
    parameters = [p for p in model.parameters() if p.requires_grad]
    device = next(iter(model.parameters())).device
    blocks = Ranks.current().deal(_blocks(text, chosen))
    total = sum(int(text.lengths[rows].sum()) for rows in blocks)
    lend = replicas(model)

    def sums_of(rows: npt.NDArray[np.int64]) -> _Sums:
        generator = torch.Generator(device).manual_seed(seed * 1_000_003 + int(rows[0]))
        with lend() as replica:
            sums = _Sums(replica, device)
            sums.add_block_(text, rows, generator)
        return sums

    sums = _Sums(model, device)
    most = max(1, IN_FLIGHT // max(BLOCK, text.ids.shape[1]))
    for parameter in parameters:
        parameter.requires_grad_(False)
    try:
        added = map_single_threaded(sums_of, blocks, device, most)
        with reporter.stage("output gradients", total, "tokens") as stage:
            for rows, block_sums in zip(blocks, added, strict=True):
                sums.add_(block_sums)
                stage.advance(int(text.lengths[rows].sum()))
    finally:
        for parameter in parameters:
            parameter.requires_grad_(True)
    means = sums.means(counted)
    products = {name: mean for name, mean in means.items() if mean.ndim == 2}
    squares = {n: m.diagonal().copy() if m.ndim == 2 else m for n, m in means.items()}
    return OutputGradients(squares, products, counted, text.source)


def _blocks(text: Sequences, chosen: npt.NDArray[np.int64]) -> list[npt.NDArray[np.int64]]:
    at_once = max(1, BLOCK // text.ids.shape[1])
    return [chosen[i : i + at_once] for i in range(0, len(chosen), at_once)]


class _Sums:
    """Sums of squares or outer products of gradients, and the hooks that add to them."""

    def __init__(self, model: Model, device: torch.device) -> None:
        self.model, self.device = model, device
        modules = dict(model.named_modules())
        self.linears = {n: m for n, m in modules.items() if isinstance(m, nn.Linear) and n != HEAD}
        self.tables = {n: m for n, m in modules.items() if isinstance(m, nn.Embedding)}
        self.outputs = {
            n: torch.zeros((m.out_features,) * (1 + (m.out_features <= WIDEST)), device=device)
            for n, m in self.linears.items()
        }
        self.lookups = {
            n: torch.zeros(m.num_embeddings, device=device) for n, m in self.tables.items()
        }
        self.head = torch.zeros_like(self.lookups[EMBEDDING])
        self.energy = torch.zeros((), device=device)  # Σ |head input|²

    def add_(self, other: _Sums) -> None:
        """Add the sums of another block."""
        for total, added in zip(self._tensors(), other._tensors(), strict=True):
            total += added

    def _tensors(self) -> list[Tensor]:
        return [*self.outputs.values(), *self.lookups.values(), self.head, self.energy]

    def _attach(self, hooks: contextlib.ExitStack) -> None:
        for name, layer in self.linears.items():
            hooks.callback(layer.register_forward_hook(partial(self._on_output, name)).remove)
        for name, table in self.tables.items():
            hooks.callback(table.register_forward_hook(partial(self._on_lookup, name)).remove)
        norm = dict(self.model.named_modules())["final_norm"]
        hooks.callback(norm.register_forward_hook(self._on_final).remove)

    def _on_output(self, name: str, _: nn.Module, __: Any, output: Tensor) -> None:
        def add(gradient: Tensor) -> None:
            flat, total = gradient.float().flatten(0, -2), self.outputs[name]
            if total.ndim == 2:
                total.addmm_(flat.T, flat)
            else:
                total.add_(flat.square().sum(0))

        output.register_hook(add)

    def _on_lookup(
        self, name: str, _: nn.Module, inputs: tuple[Tensor, ...], output: Tensor
    ) -> None:
        # the weights require no gradients: the graph starts here
        output.requires_grad_(True)

        def add(gradient: Tensor) -> None:
            self.lookups[name].index_add_(
                0, inputs[0].flatten(), gradient.float().square().sum(-1).flatten()
            )

        output.register_hook(add)

    def _on_final(self, _: nn.Module, __: Any, output: Tensor) -> None:
        self.energy += output.detach().float()[self.real].square().sum()

    @torch.enable_grad()
    def add_block_(
        self, text: Sequences, rows: npt.NDArray[np.int64], generator: torch.Generator
    ) -> None:
        """Run these sequences forward and backward, and add the sums of their gradients."""
        longest = int(text.lengths[rows].max())
        ids = torch.from_numpy(text.ids[rows, :longest].astype(np.int64)).to(self.device)
        self.real = torch.from_numpy(np.arange(longest) < text.lengths[rows, None]).to(self.device)
        with contextlib.ExitStack() as hooks:
            self._attach(hooks)
            logits = self.model(ids)[self.real]
        fixed = logits.detach()
        shares = torch.softmax(fixed, -1)
        cap = self.model.config.logit_softcap or float("inf")
        slope = 1.0 - (fixed / cap).square()
        # E[(δ_yv − p_v)²] over y, exactly: no draw needed for the head's own output
        self.head += (shares * (1 - shares) * slope.square()).sum(0)
        if not bool(self.head.isfinite().all()):
            raise _not_finite("logits")
        targets = torch.multinomial(shares, 1, generator=generator)[:, 0]
        F.cross_entropy(logits, targets, reduction="sum").backward()

    def means(self, tokens: int) -> dict[str, Float32]:
        """Return the means per token over all ranks, by tensor name.

        Raises BadCheckpoint for a gradient that is not finite.
        """
        ranks = Ranks.current()
        reduced = {f"{n}.weight": ranks.summed_(t) / tokens for n, t in self.outputs.items()}
        head, energy = ranks.summed_(self.head) / tokens, ranks.summed_(self.energy) / tokens
        lookups = {n: ranks.summed_(total) / tokens for n, total in self.lookups.items()}
        for name, table in self.tables.items():
            reduced[f"{name}.weight"] = lookups[name] / table.embedding_dim
        if self.model.config.tie_embeddings:
            of_lookups = lookups[EMBEDDING] / energy.clamp_min(1e-30)
            reduced[f"{EMBEDDING}.weight"] = head + of_lookups
        else:
            reduced[f"{HEAD}.weight"] = head
        for name, values in reduced.items():
            if not bool(values.isfinite().all()):
                raise _not_finite(name)
        return {name: values.cpu().numpy() for name, values in reduced.items()}


def _not_finite(name: str) -> BadCheckpoint:
    return BadCheckpoint(
        f"the gradient of {name} is not a number",
        expected="finite gradients",
        found="NaN or infinity",
        fix="Resume training from an earlier checkpoint, or calibrate on other text.",
    )
