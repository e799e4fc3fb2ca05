"""Tensors that no product or lookup covers keep floats, whatever their size, as the report says."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import squeeze
from squeeze.calib.taps.layout import FLOAT
from squeeze.errors import OverBudget
from squeeze.packing.packed import Packed

VOCAB, WIDTH, WINDOW = 64, 32, 16


class Spare(nn.Module):
    """A model with a large layer that nothing uses and a large table of which it uses entries."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(VOCAB, WIDTH)
        self.head = nn.Linear(WIDTH, VOCAB, bias=False)
        self.spare = nn.Linear(260, 260, bias=False)
        self.gains = nn.Parameter(torch.ones(2100, WIDTH) + 0.3 * torch.randn(2100, WIDTH))

    def forward(self, ids: Tensor) -> Tensor:
        """Return logits."""
        logits: Tensor = self.head(self.table(ids) * self.gains[7])
        return logits


def pack(model: nn.Module, limit: int, preset: str = "fast") -> Packed:
    tokens = np.random.default_rng(0).integers(0, VOCAB, 512)
    settings = {"seq_len": WINDOW}
    tune = 4 if preset == "tuned" else None
    return squeeze.pack(model, limit, tokens=tokens, preset=preset, config=settings, tune=tune)


@pytest.mark.parametrize("preset", ["fast", "tuned"])
def test_what_is_said_to_keep_floats_does(preset: str) -> None:
    torch.manual_seed(0)
    packed = pack(Spare(), 300_000, preset)
    assert packed.plan is not None
    kinds = {tensor.name: tensor.kind for tensor in packed.plan.tensors}
    floats = {row["matrix"] for row in packed.plan.coverage["rows"] if row["how"] == FLOAT}
    assert floats == {"spare.weight", "gains"}
    assert {kinds[name] for name in floats} == {"raw"}


def test_floats_that_fill_the_limit_are_named() -> None:
    torch.manual_seed(0)
    with pytest.raises(OverBudget, match=r"Floats take 269,600 bytes .*, spare.weight 135,200"):
        pack(Spare(), 100_000)


class Vectors(nn.Module):
    """A model without a matrix."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.scores, self.gains = nn.Parameter(torch.randn(64)), nn.Parameter(torch.randn(64))

    def forward(self, ids: Tensor) -> Tensor:
        return self.scores[ids][..., None] * self.gains


def test_a_model_of_vectors_alone_drops_bits_of_floats() -> None:
    packed = squeeze.pack(Vectors(), 400, tokens=list(range(64)) * 32, preset="fast")
    assert packed.plan is not None and len(packed.data) <= 400
    assert packed.plan.measured < 1e-6
