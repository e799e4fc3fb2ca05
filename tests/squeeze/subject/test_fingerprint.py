"""Two models with equal weights that compute otherwise have other keys, and nothing kept in common."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

import squeeze
from squeeze.subject.subject import Facts
from squeeze.subject.workpiece import Workpiece

VOCAB, WIDTH = 64, 48


class Scaled(nn.Module):
    """A model with a number that is no weight."""

    def __init__(self, gain: float = 1.0) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.gain = gain
        self.table = nn.Embedding(VOCAB, WIDTH)
        self.head = nn.Linear(WIDTH, VOCAB, bias=False)

    def forward(self, ids: Tensor) -> Tensor:
        """Return logits."""
        logits: Tensor = self.gain * self.head(self.table(ids))
        return logits


def key(gain: float = 1.0, length: int = 16, bos: int | None = None) -> str:
    return Workpiece.of_module(Scaled(gain), Facts(length=length, bos=bos)).key


def test_keys_differ_in_the_forward_the_window_and_the_first_token() -> None:
    assert key() == key()
    assert len({key(), key(gain=2.0), key(length=32), key(bos=1)}) == 4


def test_a_cache_of_a_model_that_computes_otherwise_is_not_used(tmp_path: Path) -> None:
    tokens = np.random.default_rng(0).integers(0, VOCAB, 512)

    def measured(gain: float, cache: Path | None) -> float:
        packed = squeeze.pack(
            Scaled(gain), 3_000, tokens=tokens, preset="fast", cache=cache, config={"seq_len": 16}
        )
        assert packed.cost is not None
        return packed.cost.measured

    measured(1.0, tmp_path)
    assert measured(3.0, tmp_path) == measured(3.0, None)
