"""Arithmetic of a step, against the sum written out."""

from __future__ import annotations

import pytest
import torch

from squeeze.train.model.config import ModelConfig
from squeeze.train.run.flops import flops_per_token, peak_flops

CONFIG = ModelConfig(100, 3, 32, 4, 2, 64, seq_len=16, layer_schedule=(0, 1, 2, 1, 2))
BLOCK = 32 * 32 + 2 * 32 * 16 + 32 * 32 + 2 * 32 * 64  # q, k and v, proj, MLP


def test_operations_are_six_a_weight_each_time_it_is_used() -> None:
    head, attention = 100 * 32, 32 * 16
    assert flops_per_token(CONFIG, recurrent=False) == 6 * (3 * BLOCK + head + 3 * attention)
    assert flops_per_token(CONFIG, recurrent=True) == 6 * (5 * BLOCK + head + 5 * attention)


def test_the_baseline_spends_about_a_hundred_million_operations_a_token() -> None:
    baseline = ModelConfig(1024, 9, 512, 8, 4, 1024)
    assert flops_per_token(baseline) == pytest.approx(6 * (17.0e6 + 9 * 512 * 1024), rel=0.01)


def test_a_processor_has_no_published_peak() -> None:
    assert peak_flops(torch.device("cpu")) is None
