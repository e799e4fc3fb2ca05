"""Switches that are thrown during a run take effect in a compiled model, too."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from squeeze.train.model.config import ModelConfig
from squeeze.train.optim.recipe import Recipe
from squeeze.train.run.trainer import Trainer, _compiled

CONFIG = ModelConfig(32, 2, 32, 2, 1, 48, seq_len=16, layer_schedule=(0, 1, 0, 1))
RECIPE = Recipe(batch_tokens=64, recurrence_start=0.5, qat_start=0.75, qat_bits=3, qat_k=2.0)


def trainers(backend: str) -> tuple[Trainer, Trainer]:
    """The same run, eager and compiled, past a few steps so that no layer is silent."""
    tokens = np.random.default_rng(0).integers(0, 32, 2000).astype(np.uint16)
    pair = tuple(Trainer(CONFIG, [tokens], RECIPE) for _ in range(2))
    for trainer in pair:
        for _ in range(3):
            trainer.step(0.6)
    torch._dynamo.reset()
    if backend == "as --compile does":
        pair[1].loss = _compiled(pair[1].model)
    else:
        pair[1].loss = torch.compile(pair[1].model.loss, backend=backend, dynamic=False)
    return pair  # type: ignore[return-value]


@pytest.mark.parametrize(
    "backend", ["aot_eager", pytest.param("as --compile does", marks=pytest.mark.slow)]
)
def test_a_compiled_model_switches_recurrence_and_quantization_on(backend: str) -> None:
    eager, compiled = trainers(backend)
    ids, targets = eager.loader.peek()
    seen = []
    for progress in (0.4, 0.6, 0.8):  # neither; recurrent; both
        losses = []
        for trainer in (eager, compiled):
            trainer.switch(progress)
            losses.append(float(trainer._gradients(ids, targets)))
        assert losses[1] == pytest.approx(losses[0], abs=1e-5)
        gradients = [[w.grad for w in trainer.model.parameters()] for trainer in (eager, compiled)]
        for one, other in zip(*gradients, strict=True):
            torch.testing.assert_close(other, one, atol=1e-5, rtol=1e-3)
        for trainer in (eager, compiled):
            trainer.model.zero_grad()
        seen.append(losses[1])
    assert len({round(loss, 4) for loss in seen}) == 3  # each switch changed the loss


def test_switches_follow_the_recipe_during_a_run() -> None:
    trainer = trainers("eager")[0]
    states = []
    for progress in (0.0, 0.49, 0.5, 0.74, 0.75, 1.0):
        trainer.step(progress)
        states.append((trainer.model.recurrent, trainer.qat.on))
    assert states == [(False, False)] * 2 + [(True, False)] * 2 + [(True, True)] * 2


def test_warming_up_changes_nothing() -> None:
    tokens = np.random.default_rng(0).integers(0, 32, 2000).astype(np.uint16)
    warm, cold = (Trainer(CONFIG, [tokens], RECIPE) for _ in range(2))
    warm.warm_up()
    for _ in range(3):
        results = [trainer.step(0.3) for trainer in (warm, cold)]
        assert results[0] == results[1]
    for one, other in zip(warm.model.parameters(), cold.model.parameters(), strict=True):
        assert torch.equal(one, other)


def test_repeats_begin_with_what_their_blocks_have_learned_also_after_a_resume() -> None:
    config = replace(CONFIG, untied_mlps=(0, 1), untied_scalars=True)
    tokens = np.random.default_rng(0).integers(0, 32, 2000).astype(np.uint16)
    trainer, resumed = (Trainer(config, [tokens], RECIPE) for _ in range(2))
    block = trainer.model.blocks[1]
    for _ in range(3):
        trainer.step(0.4)
    assert not torch.equal(block.repeats[0].mlp.proj.weight, block.mlp.proj.weight)
    resumed.resume_(*trainer.saved())
    for run in (trainer, resumed):
        run.switch(0.5)
        block = run.model.blocks[1]
        assert torch.equal(block.repeats[0].mlp.proj.weight, block.mlp.proj.weight)
        assert torch.equal(block.repeats[0].attn_scale, block.attn_scale)
    trainer.step(0.5)
    resumed.resume_(*trainer.saved())
    for run in (trainer, resumed):  # once only: from here on they learn apart
        before = [weight.clone() for weight in run.model.parameters()]
        run.switch(0.6)
        pairs = zip(run.model.parameters(), before, strict=True)
        assert all(torch.equal(weight, kept) for weight, kept in pairs)
