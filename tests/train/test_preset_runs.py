"""Each preset's own recipe trains its own architecture, at reduced width."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from squeeze.train.presets import PRESETS
from squeeze.train.run.trainer import Trainer
from tests.tiny_models import NARROW, VOCAB

MOMENTS = (0.0, 0.1, 0.2, 0.5, 0.7, 0.95)  # fractions of the run at which a step is taken


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_steps_through_all_its_switches(name: str) -> None:
    recipe = replace(PRESETS[name].recipe, batch_tokens=64, recurrence_step=3, average_start=0.0)
    tokens = np.random.default_rng(0).integers(0, VOCAB, 2000).astype(np.uint16)
    trainer = Trainer(NARROW[name], [tokens], recipe)
    before = {key: weight.clone() for key, weight in trainer.model.named_parameters()}
    recurrent = []
    for progress in MOMENTS:
        loss, norm = trainer.step(progress)
        assert loss.isfinite() and norm > 0
        recurrent.append(trainer.model.recurrent)
    assert recurrent == [recipe.recurrent_at(p, step) for step, p in enumerate(MOMENTS)]
    still = [k for k, w in trainer.model.named_parameters() if torch.equal(w, before[k])]
    unused = {f"blocks.{layer}.attn" for layer in NARROW[name].no_attention}
    assert not [key for key in still if not key.startswith(tuple(unused))]
    assert trainer.weights().keys() == before.keys()
