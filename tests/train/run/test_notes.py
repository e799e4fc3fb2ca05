"""A run does as it is told, refuses to, or says in which it did not."""

from __future__ import annotations

from typing import Any

import pytest

from squeeze.errors import BadConfig
from squeeze.train.model.config import ModelConfig
from squeeze.train.optim.recipe import Recipe
from squeeze.train.run.training import TrainingDiverged, TrainResult, train
from tests.tiny_text import noisy_cycle

CONFIG = ModelConfig(32, 2, 32, 2, 1, 32, seq_len=16)


def run(config: ModelConfig = CONFIG, **settings: Any) -> TrainResult:
    recipe = Recipe(**({"batch_tokens": 32, "steps": 3} | settings))
    return train(config, [noisy_cycle(500)], recipe)


def test_a_run_that_did_as_it_was_told_has_no_notes() -> None:
    everything = {"average": "ema", "qat_start": 0.5, "recurrence_start": 0.5}
    repeating = ModelConfig(32, 2, 32, 2, 1, 32, seq_len=16, layer_schedule=(0, 1, 0, 1))
    assert run(repeating, **everything).notes == run().notes == ()


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"batch_tokens": 40}, "a step had 32 tokens, not the 40 of batch_tokens"),
        ({"average": "swa"}, "none were averaged"),
        ({"average": "ema", "average_start": 0.9}, "none were averaged"),
        ({"qat_start": 0.9}, "weights were rounded in no step"),
    ],
)
def test_a_setting_without_effect_is_named(settings: dict[str, Any], sentence: str) -> None:
    (note,) = run(**settings).notes
    assert sentence in note


def test_blocks_that_never_repeated_are_named() -> None:
    repeating = ModelConfig(32, 2, 32, 2, 1, 32, seq_len=16, layer_schedule=(0, 1, 0, 1))
    (note,) = run(repeating, recurrence_step=3000).notes
    assert "no step ran the repeated blocks" in note


def test_shards_without_a_row_are_named() -> None:
    shards = [noisy_cycle(500), noisy_cycle(500)[:16], noisy_cycle(500)[:0]]
    (note,) = train(CONFIG, shards, Recipe(batch_tokens=32, steps=1)).notes
    assert "2 of 3 shards were never read" in note


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"batch_tokens": 15}, r"batch_tokens; expected a window .*≥ 16, found 15"),
        ({"micro_tokens": 15}, r"micro_tokens; expected a row or more: ≥ 16"),
        ({"packed_rows": 3}, r"packed_rows.*expected ≤ 2, found 3"),
        ({"batch_tokens": 64, "packed_rows": 2, "micro_tokens": 16}, r"micro_tokens.*≥ 32"),
    ],
)
def test_batches_and_parts_below_a_row_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(BadConfig, match=message):
        run(**settings)


def test_weights_that_the_last_step_broke_are_not_exported() -> None:
    with pytest.raises(TrainingDiverged, match=r"weights that are no numbers"):
        run(steps=1, table_lr=1e30, table_decay=1e30, warmup=0.0)
