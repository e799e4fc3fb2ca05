"""Numbers of a step that the host needs, agreed by all ranks, without stalling a GPU.

On a CPU they come back at once. On a GPU they come back one step later: by then they have long been
computed, while reading them at once would leave the device without work until the next step is sent.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from squeeze.ranks.group import Ranks


@dataclass(frozen=True)
class Seen:
    """What all ranks agree on about a step. loss: mean over the ranks; inside, training: seconds on
    rank 0's clock; stopped: whether any rank was asked to stop."""

    step: int
    loss: float
    norm: float
    inside: float
    training: float
    stopped: bool


class Readback:
    """Sends each step's numbers through one sum over the ranks and hands them back in order."""

    def __init__(self, ranks: Ranks) -> None:
        self.ranks, self.device = ranks, ranks.device
        self.lag = 1 if ranks.device.type == "cuda" else 0
        self._under_way: list[tuple[int, Tensor, Any]] = []

    def push(
        self, step: int, loss: Tensor, norm: Tensor, inside: float, training: float, stop: bool
    ) -> list[Seen]:
        """Send a step's numbers; returns those that are back by now: at most one step's.

        loss and norm: [] on the device. The flag of any rank reaches all (a sum above zero).
        """
        first = float(self.ranks.first)
        numbers = torch.tensor(
            [0.0, 0.0, inside * first, training * first, float(stop)], dtype=torch.float64
        )
        event = None
        if self.device.type == "cuda":
            numbers = numbers.pin_memory().to(self.device, non_blocking=True)
        numbers[0], numbers[1] = loss / self.ranks.world, norm / self.ranks.world
        self.ranks.sum_(numbers)()
        if self.device.type == "cuda":
            host = torch.empty(len(numbers), dtype=numbers.dtype, pin_memory=True)
            numbers = host.copy_(numbers, non_blocking=True)
            event = torch.cuda.Event()
            event.record()
        self._under_way.append((step, numbers, event))
        return [self._read()] if len(self._under_way) > self.lag else []

    def drain(self) -> list[Seen]:
        """Wait for all that is under way."""
        return [self._read() for _ in range(len(self._under_way))]

    def _read(self) -> Seen:
        step, numbers, event = self._under_way.pop(0)
        if event is not None:
            event.synchronize()
        loss, norm, inside, training, stopped = numbers.tolist()
        return Seen(step, loss, norm, inside, training, stopped > 0)
