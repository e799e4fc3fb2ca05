"""Numbers of a step that the host needs, summed over all ranks, without stalling a GPU.

On a CPU they come back at once. On a GPU they come back one step later: by then they have long been
computed, while reading them at once would leave the device without work until the next step is sent.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from squeeze.ranks.group import Ranks

Begun = tuple[int, float]  # number and rate of a step
Numbers = tuple[Begun, list[float]]  # of a step, and its sums over the ranks


class Readback:
    """Sends each step's numbers through one sum over the ranks and hands the sums back in order.

    lag: steps that are under way before the first sums come back
    """

    def __init__(self, ranks: Ranks) -> None:
        self.ranks, self.device = ranks, ranks.device
        self.lag = 1 if ranks.device.type == "cuda" else 0
        self._under_way: list[tuple[Begun, Tensor, Any]] = []

    def push(
        self, step: Begun, computed: Sequence[Tensor], timed: Sequence[float]
    ) -> list[Numbers]:
        """Send a step's numbers; return those that are back by now, at most one step's.

        computed: [] each, on the device, not waited for
        timed: numbers of the host, which follow in the sums
        """
        numbers = torch.tensor([*(0.0 for _ in computed), *timed], dtype=torch.float64)
        event = None
        if self.device.type == "cuda":
            numbers = numbers.pin_memory().to(self.device, non_blocking=True)
        for row, number in enumerate(computed):
            numbers[row] = number
        self.ranks.sum_(numbers)()
        if self.device.type == "cuda":
            host = torch.empty(len(numbers), dtype=numbers.dtype, pin_memory=True)
            numbers = host.copy_(numbers, non_blocking=True)
            event = torch.cuda.Event()
            event.record()
        self._under_way.append((step, numbers, event))
        return [self._read()] if len(self._under_way) > self.lag else []

    def drain(self) -> list[Numbers]:
        """Wait for all numbers that are under way and return them."""
        return [self._read() for _ in range(len(self._under_way))]

    def _read(self) -> Numbers:
        step, numbers, event = self._under_way.pop(0)
        if event is not None:
            event.synchronize()
        return step, numbers.tolist()
