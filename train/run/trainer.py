"""One step of training, and everything a step depends on."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor

from squeeze.ranks.group import Ranks
from squeeze.train.data.loader import Loader, on_device
from squeeze.train.data.shards import Tokens
from squeeze.train.model.attention import Reach
from squeeze.train.model.config import ModelConfig
from squeeze.train.model.gpt import GPT
from squeeze.train.model.layers import Table
from squeeze.train.optim.averaging import Average
from squeeze.train.optim.optimizer import Optimizer, split_parameters
from squeeze.train.optim.qat import QuantizationAware
from squeeze.train.optim.recipe import Recipe
from squeeze.train.run.randomness import random_state, set_random_state

Loss = Callable[[Tensor, Tensor, Reach], Tensor]

WARM_UP_STEPS = {"cuda": 20, "cpu": 1}  # the records' number; a CPU only compiles


class Trainer:
    """A model with its optimizer, data, averages and switches, for one rank of many.

    shards: tokens uint16 [n] each, arrays or memory maps
    seed: of the first weights and of the order of the data

    tokens: of a batch, all ranks together
    rows: of a batch that this rank computes at a time, at most
    done: steps so far
    repeating: True if repeated blocks repeated in the last step

    Raises BadConfig or BadData when batch, shards and ranks do not fit together.
    """

    def __init__(
        self,
        config: ModelConfig,
        shards: Sequence[Tokens],
        recipe: Recipe,
        seed: int = 0,
        ranks: Ranks = Ranks(),  # noqa: B008  frozen
    ) -> None:
        self.config, self.recipe, self.ranks, self.device = config, recipe, ranks, ranks.device
        length, self.cut = config.seq_len, 0
        if recipe.packed_rows:  # documents longer than a window are cut, rows are not
            length, self.cut = max(length, recipe.batch_tokens // recipe.packed_rows), length
        self.batch = max(1, recipe.batch_tokens // length)
        self.tokens = self.batch * length
        self.rows = recipe.micro_tokens // length or self.batch
        self.loader = Loader(shards, length, self.batch, config.vocab_size, seed, ranks)
        self.model = GPT(config, seed, recipe.matrix_start).to(self.device)
        if recipe.table_precision == "bf16":
            for module in self.model.modules():
                if isinstance(module, Table):
                    module.bfloat16()
        self.loss: Loss = self.model.loss
        self.compiled = False
        named = list(self.model.named_parameters())
        self.optimizer = Optimizer(named, recipe, ranks)
        self.average = Average(named, recipe)
        if recipe.qat_start != 1.0:
            matrices, tables, head, _ = split_parameters(named)
            self.qat = QuantizationAware(matrices, tables | head, recipe)
        self.done = 0
        self.repeating = False

    def compile_(self) -> None:
        """Run the model through torch.compile from now on."""
        self.loss, self.compiled = _compiled(self.model), True

    def warm_up(self) -> None:
        """Take the steps that the run will need, on its first batches, so that all is compiled.

        Afterwards nothing has changed, as in the records: weights, optimizer and data are what they
        were. After an out-of-memory error every rank halves its parts of a batch and tries again.
        """
        weights = [weight.detach().clone() for weight in self.model.parameters()]
        state = {name: tensor.clone() for name, tensor in self.optimizer.snapshot().items()}
        position = self.loader.position
        states = {True, not self.config.layer_schedule or self.recipe.recurrent_at(0.0, 0)}
        for recurrent in sorted(states):
            self.model.recurrent = recurrent
            self._fit()
            for _ in range(WARM_UP_STEPS[self.device.type]):
                self._next_gradients()
                self.optimizer.step(1.0, self.recipe.momentum_at(0))
        with torch.no_grad():
            torch._foreach_copy_(list(self.model.parameters()), weights)
        self.optimizer.load_state_(state)
        self.loader.position = position

    def _fit(self) -> None:
        """Lower the rows of a forward until one fits in the memory of every rank."""
        while True:
            error = None
            try:
                self._next_gradients()
            except torch.OutOfMemoryError as caught:
                error = caught
            self.model.zero_grad()
            if self.ranks.on_all(error is None):
                return
            if self.rows == 1:
                raise error or torch.OutOfMemoryError("out of memory on another rank")
            self.rows = min(self.rows, self.batch // self.ranks.world)
            self.rows = max(1, self.rows // 2)
            torch.cuda.empty_cache()
            warnings.warn(
                f"out of memory: batches are computed in parts of {self.rows} rows from now on",
                stacklevel=2,
            )

    def step(self, progress: float) -> tuple[Tensor, Tensor]:
        """Train on the next batch and return its loss and the norm of its gradients.

        progress: fraction 0…1 of the run that is done

        The loss is that of this rank's share in nats per token, before the update; the norm is that of
        all gradients, before clipping. Both are float32 [] on the device, not waited for.
        """
        self.switch(progress)
        loss = self._next_gradients()
        if self.recipe.qat_start != 1.0:
            self.qat.add_rate_gradient_()
        rate, momentum = self.recipe.rate(progress), self.recipe.momentum_at(self.done)
        norm = self.optimizer.step(rate, momentum)
        self.done += 1
        self.average.update(progress, self.done)
        return loss, norm

    def switch(self, progress: float) -> None:
        """Set what the recipe switches on or off for the next step, at `progress` (0…1) of the run."""
        self.model.recurrent = self.recipe.recurrent_at(progress, self.done)
        if self.model.recurrent and not self.repeating and self.done:
            self.model.start_repeats_()
        self.repeating = self.model.recurrent
        if self.recipe.qat_start != 1.0:
            self.qat.on = self.recipe.quantized_at(progress)

    def _gradients(self, ids: Tensor, targets: Tensor, host: Tensor | None = None) -> Tensor:
        """Fill the gradients of the mean loss over ids, in parts that fit in memory; return the loss.

        host: the ids in the memory of the CPU; without them a GPU may be waited for
        """
        total = torch.zeros((), device=self.device)
        parts = zip(
            ids.split(self.rows),
            targets.split(self.rows),
            (ids if host is None else host).split(self.rows),
            strict=True,
        )
        with self.qat.rounded() if self.recipe.qat_start != 1.0 else nullcontext():
            for part, part_targets, on_host in parts:
                with self._precision():
                    # outside what is compiled: the number of documents is no part of a graph
                    reach = self.model.reach(part, on_host, self.cut)
                    if reach.bounds is not None:
                        torch._dynamo.mark_dynamic(reach.bounds, 0)
                    loss = self.loss(part, part_targets, reach)
                weight = len(part) / len(ids)
                (loss if weight == 1.0 else loss * weight).backward()
                total += loss.detach() * weight
        return total

    def _next_gradients(self) -> Tensor:
        """Fill the gradients of the next batch and return its mean loss."""
        rows = self.loader.take()
        return self._gradients(*on_device(rows, self.device), rows[:, :-1])

    def _precision(self) -> Any:
        if self.optimizer.dtype == torch.bfloat16:
            return torch.autocast(self.device.type, torch.bfloat16)
        return nullcontext()

    def weights(self) -> dict[str, Tensor]:
        """Return copies of the weights, averaged where the recipe says so, float32 on the CPU."""
        mean = self.average.result()
        return {name: weight.float().cpu().clone() for name, weight in mean.items()}

    def saved(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Return tensors and facts of everything the next step depends on; every rank must call."""
        tensors = {f"model.{name}": w for name, w in self.model.state_dict().items()}
        tensors |= {f"optimizer.{name}": t for name, t in self.optimizer.snapshot().items()}
        tensors |= {f"average.{name}": t for name, t in self.average.snapshot().items()}
        for name, state in random_state(self.device).items():
            tensors[f"random.{name}"] = self.ranks.gathered(state.to(self.device))
        facts = {
            "step": self.done,
            "position": self.loader.position,
            "average_updates": self.average.updates,
            "repeating": self.repeating,
        }
        return tensors, facts

    def resume_(self, tensors: dict[str, Tensor], facts: dict[str, Any]) -> None:
        """Continue from `saved()`; raises KeyError or RuntimeError when it is of another model."""
        parts: dict[str, dict[str, Tensor]] = {}
        for name, tensor in tensors.items():
            part, _, rest = name.partition(".")
            parts.setdefault(part, {})[rest] = tensor
        self.model.load_state_dict(parts["model"])
        self.optimizer.load_state_(parts["optimizer"])
        self.average.load_state_(parts.get("average", {}), facts["average_updates"])
        set_random_state(parts["random"], self.ranks.rank, self.device)
        self.done, self.loader.position = facts["step"], facts["position"]
        self.repeating = facts["repeating"]


def _compiled(model: GPT) -> Loss:
    """Return the model's loss through torch.compile: whole on a GPU, block by block on a CPU.

    All blocks of one kind share their compiled code: one graph of everything costs a short CPU run
    several times the compilation and gains little (docs/log.md).
    """
    if model.tok_emb.weight.is_cuda:
        return torch.compile(model.loss, dynamic=False, fullgraph=True)
    for block in model.blocks:
        block.compile(dynamic=False)
    head_loss = torch.compile(model.head_loss, dynamic=False)
    return lambda ids, targets, reach: head_loss(model.hidden(ids, reach=reach), targets)


def compilations() -> int:
    """Return the number of graphs that torch.compile has made in this process."""
    # an attribute of torch once something has compiled; asking torch for it would import it
    dynamo = vars(torch).get("_dynamo")
    return 0 if dynamo is None else int(dynamo.utils.counters["stats"]["unique_graphs"])
