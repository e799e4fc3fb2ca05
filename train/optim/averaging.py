"""Averages of the weights along a run, exported in their place when the recipe asks for one."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from squeeze.train.optim.recipe import Recipe


class Average:
    """Exponential ("ema") or plain ("swa") average of weights, held beside them in float32.

    ema: after each step, with weight 1 − d for the new weights; d = min(ema_decay, (1 + n)/(10 + n))
    for the n-th update, so that a short run does not remember its start. swa: every swa_every-th step
    counts alike (Izmailov et al., arXiv 1803.05407). Both begin at `average_start` of the run.
    """

    def __init__(self, named: Iterable[tuple[str, Tensor]], recipe: Recipe) -> None:
        self.recipe = recipe
        self.weights = dict(named)
        self.mean: dict[str, Tensor] = {}  # empty until averaging begins
        self.updates = 0

    @torch.no_grad()
    def update(self, progress: float, step: int) -> None:
        """Take in the weights after step 1, 2, …, at `progress` (0…1) of the run."""
        recipe = self.recipe
        if recipe.average == "none" or progress < recipe.average_start:
            return
        if recipe.average == "swa" and step % recipe.swa_every:
            return
        if not self.mean:
            self.mean = {n: weight.detach().float().clone() for n, weight in self.weights.items()}
        else:
            past = self.updates / (self.updates + 1)
            if recipe.average == "ema":
                past = min(recipe.ema_decay, (1 + self.updates) / (10 + self.updates))
            weights = [weight.float() for weight in self.weights.values()]
            torch._foreach_lerp_(list(self.mean.values()), weights, 1.0 - past)
        self.updates += 1

    def result(self) -> dict[str, Tensor]:
        """Return the average by name; the weights themselves when nothing was averaged."""
        return self.mean or {name: weight.detach() for name, weight in self.weights.items()}

    def snapshot(self) -> dict[str, Tensor]:
        """Return tensors to save, under the weights' names; `updates` is saved apart."""
        return self.mean

    def load_state_(self, mean: dict[str, Tensor], updates: int) -> None:
        """Continue from `snapshot()`."""
        if mean:  # in the order of the weights: they are averaged pairwise
            self.mean = {n: mean[n].to(w.device, copy=True) for n, w in self.weights.items()}
        self.updates = updates
