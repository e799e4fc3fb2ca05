"""Taps of whole parameters beside the general ones, on our own models: the same bits."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from squeeze.calib.statistics.fisher import collect_gradients
from squeeze.calib.statistics.inputs import InputSums
from squeeze.calib.statistics.whole import whole_model
from squeeze.calib.text.sources import Sequences
from squeeze.train.model.config import ModelConfig
from squeeze.train.model.gpt import GPT
from tests.tapping import tapped

SMALL: dict[str, Any] = {
    "vocab_size": 64, "num_layers": 3, "model_dim": 16, "num_heads": 2, "num_kv_heads": 1,
    "mlp_hidden": 32, "seq_len": 16,
}  # fmt: skip
KINDS: dict[str, dict[str, Any]] = {
    "plain": {},
    "untied": {"tie_embeddings": False},
    "looped, in sum": {"layer_schedule": (0, 1, 1, 2), "parallel": "sum", "parallel_from": 1},
    "hashed": {"bigram_rows": 32, "bigram_dim": 8, "smear_gate": "token"},
    "values, gates": {"value_layers": (1,), "value_dim": 8, "attention_gate": "sparse"},
    "without attention": {"no_attention": (1,)},
}


@pytest.mark.parametrize("kind", KINDS)
def test_statistics_are_those_of_the_general_taps(kind: str) -> None:
    torch.manual_seed(0)
    model = GPT(ModelConfig(**SMALL | KINDS[kind])).eval()
    with torch.no_grad():
        for weight in model.parameters():
            weight.copy_(torch.randn_like(weight) * 0.1)
    ids = np.random.default_rng(0).integers(0, 64, (4, 16)).astype(np.uint16)
    text = Sequences(ids, "random")
    general = tapped(model)
    whole = whole_model(
        model, lambda module, ids: module(ids), torch.zeros(1, 1, dtype=torch.int64)
    )
    assert list(whole.layout.matrices) == list(general.layout.matrices)
    assert whole.layout.head == general.layout.head
    before, after = InputSums(general, text).hessians(), InputSums(whole, text).hessians()
    assert before.matrices.keys() == after.matrices.keys()
    assert all(np.array_equal(m, after.matrices[n]) for n, m in before.matrices.items())
    one, other = collect_gradients(general, text), collect_gradients(whole, text)
    assert one.rows.keys() == other.rows.keys()
    assert all(np.array_equal(one.best(name), other.best(name)) for name in one.rows)
