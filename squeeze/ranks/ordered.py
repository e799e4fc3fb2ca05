"""Sums of tensors over pieces of work that ranks compute in turn: the same bits on any number of ranks.

Floats add up to other bits in another order. So a rank does not sum its own pieces: it keeps a share of
the total, gets that share of every rank's piece, and adds them in the order of the pieces. A piece
travels once, as in a reduce-scatter.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from squeeze.ranks.group import Ranks

Shapes = Sequence[tuple[int, ...]]


class OrderedSum:
    """Float32 sums over pieces 0, 1, 2, …, of which each rank gives one at a time, in rank order.

    shapes: of the tensors of a piece
    size: numbers in all of them

    Every rank must make the same calls.
    """

    def __init__(self, ranks: Ranks, shapes: Shapes, device: torch.device) -> None:
        self.ranks, self.shapes = ranks, shapes
        self._sizes = [math.prod(shape) for shape in shapes]
        self.size = sum(self._sizes)
        self._share = torch.zeros(-(-self.size // ranks.world), device=device)

    def add_(self, piece: Sequence[Tensor] | None) -> None:
        """Add a piece of every rank, tensors of `shapes`; None: this rank has none left."""
        if self.ranks.world == 1:
            for total, part in zip(self.tensors(), piece or (), strict=True):
                total += part
            return
        sent = self._share.new_zeros(self.ranks.world * len(self._share))
        if piece is not None:
            torch.cat([part.flatten() for part in piece], out=sent[: self.size])
        # zeros of a rank without a piece change no bit: a sum that began at 0.0 never is −0.0
        for part in self.ranks.exchanged(sent).view(self.ranks.world, -1):
            self._share += part

    def tensors(self) -> list[Tensor]:
        """Return the sums, tensors of `shapes`."""
        parts = self.flat().split(self._sizes)
        return [part.view(shape) for part, shape in zip(parts, self.shapes, strict=True)]

    def flat(self) -> Tensor:
        """Return all sums, one after another."""
        return self.ranks.gathered(self._share)[: self.size]

    def load_(self, flat: Tensor) -> None:
        """Replace the sums by those that `flat` returned on any number of ranks."""
        rows, rank = len(self._share), self.ranks.rank
        padded = F.pad(flat, (0, rows * self.ranks.world - len(flat)))
        self._share.copy_(padded[rank * rows : (rank + 1) * rows])
