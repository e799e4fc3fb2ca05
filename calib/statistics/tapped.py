"""A model under taps: its matrices, and forwards whose uses of weights an observer takes.

A text's forwards hold sequences of one length: nothing is padded, so every row of every product counts.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from squeeze.calib.parallel import lender
from squeeze.calib.taps.layout import Layout
from squeeze.calib.taps.observer import Observer, Tap
from squeeze.calib.text.sources import Sequences

Forward = Callable[[nn.Module, Tensor], Tensor]
Rows = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class TappedModel:
    """A module, the function (module, ids [B, T]) → output that runs it, and its matrices.

    tap: makes the mode under which a forward shows an observer its uses of weights
    """

    module: nn.Module
    forward: Forward
    tap: Callable[[Observer], Tap]
    layout: Layout

    @property
    def device(self) -> torch.device:
        """Device of the weights."""
        return next(self.module.parameters()).device

    def run(self, replica: nn.Module, ids: Tensor, observer: Observer) -> Tensor:
        """Return the output of a replica for ids [B, T]; the observer takes its uses of weights."""
        with self.tap(observer) as taps:
            return self.forward(replica, taps.begin(ids))

    def replicas(
        self, trained: frozenset[str] = frozenset()
    ) -> Callable[[], AbstractContextManager[nn.Module]]:
        """Return a lender of copies of the module that share its weights, one for each thread.

        trained: names of parameters that get gradients, in the copy
        """
        module = self.module

        def copied() -> nn.Module:
            memo: dict[int, Any] = {
                id(weight): nn.Parameter(weight.data, requires_grad=name in trained)
                for name, weight in module.named_parameters()
            }
            return copy.deepcopy(module, memo)

        return lender(copied)


def idle_parameters(module: nn.Module) -> set[str]:
    """Return the names of parameters of modules whose attribute `idle` says that nothing uses them."""
    return {
        f"{name}.{weight}"
        for name, part in module.named_modules()
        if getattr(part, "idle", False)
        for weight, _ in part.named_parameters()
    }


def blocks_of(text: Sequences, rows: Rows, tokens: int) -> list[Rows]:
    """Return sequences in groups of about `tokens` tokens."""
    size = max(1, tokens // text.length)
    return [rows[start : start + size] for start in range(0, len(rows), size)]


def ids_of(text: Sequences, rows: Rows, device: torch.device) -> Tensor:
    """Return the tokens int64 [B, T] of sequences."""
    return torch.from_numpy(text.ids[rows].astype(np.int64)).to(device)


def first_ids(text: Sequences, device: torch.device, tokens: int = 0) -> Tensor:
    """Return the tokens int64 [B, T] of the first sequence, or of about `tokens` tokens."""
    return ids_of(text, np.arange(len(text.ids))[: max(1, tokens // text.length)], device)
