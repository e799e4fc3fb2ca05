"""Answers of the first model to calibration text, kept while they are asked for again and again."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from squeeze.calib.statistics.tapped import Rows, ids_of
from squeeze.calib.text.sources import Sequences

KEPT = 1 << 29  # bytes of answers that are kept; others are computed each time
Forward = Callable[[Tensor], Tensor]  # ids int64 [B, T] → outputs [B, T, V]


class Answers:
    """Outputs of a model for the sequences of a text.

    forward: of the model, without gradients
    most: bytes that may be kept
    """

    def __init__(self, forward: Forward, text: Sequences, most: int = KEPT) -> None:
        self.forward, self.text, self.most = forward, text, most
        self.kept: dict[int, Tensor] = {}

    def to(self, rows: Rows, device: torch.device) -> Tensor:
        """Return the outputs for sequences, [B, T, V]; called from several threads."""
        return torch.cat(
            [self._to_one(int(row), rows[n : n + 1], device) for n, row in enumerate(rows)]
        )

    def _to_one(self, number: int, row: Rows, device: torch.device) -> Tensor:
        # each sequence by itself: its bits do not depend on those that it is first asked for with
        answer = self.kept.get(number)
        if answer is None:
            answer = self.forward(ids_of(self.text, row, device))
            size = answer.numel() * answer.element_size()
            if (len(self.kept) + 1) * size <= self.most:
                self.kept[number] = answer
        return answer
