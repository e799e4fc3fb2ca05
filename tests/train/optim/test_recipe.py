"""The recipe: what it accepts, its schedules, and its way to JSON and back."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest

from squeeze.errors import BadConfig
from squeeze.train.optim.recipe import Recipe


def test_the_rate_rises_holds_and_falls_to_zero() -> None:
    recipe = Recipe(warmup=0.1, warmdown=0.5)
    rates = [recipe.rate(progress) for progress in (0.0, 0.05, 0.1, 0.5, 0.75, 1.0)]
    assert rates == pytest.approx([0.01, 0.51, 1.0, 1.0, 0.5, 0.0], abs=1e-9)
    assert Recipe(warmup=0.0, warmdown=0.0).rate(0.0) == 1.0


def test_the_rate_can_stop_falling_above_zero() -> None:
    recipe = Recipe(warmup=0.0, warmdown=0.5, final_rate=0.1)
    assert [recipe.rate(p) for p in (0.5, 0.75, 1.0)] == pytest.approx([1.0, 0.5, 0.1])


def test_momentum_rises_linearly_over_its_warmup() -> None:
    recipe = Recipe(momentum=0.97, momentum_start=0.92, momentum_warmup=100)
    assert [recipe.momentum_at(s) for s in (0, 50, 100, 999)] == pytest.approx(
        [0.92, 0.945, 0.97, 0.97]
    )
    assert Recipe(momentum=0.95).momentum_at(0) == 0.95


def test_recurrence_waits_for_both_its_fraction_and_its_step() -> None:
    recipe = Recipe(recurrence_start=0.35, recurrence_step=10)
    assert not recipe.recurrent_at(0.34, 99)
    assert not recipe.recurrent_at(0.5, 9)
    assert recipe.recurrent_at(0.35, 10)
    assert Recipe().recurrent_at(0.0, 0)


def test_quantization_is_off_unless_asked_for() -> None:
    assert not Recipe().quantized_at(1.0)
    assert Recipe(qat_start=0.85).quantized_at(0.85)
    assert not Recipe(qat_start=0.85).quantized_at(0.84)


def test_json_holds_every_field_and_comes_back_equal() -> None:
    recipe = Recipe(matrix_lr=0.022, average="ema", row_normalize=True, budget_seconds=600)
    text = recipe.to_json()
    assert set(json.loads(text)) == {field.name for field in dataclasses.fields(Recipe)}
    assert Recipe.from_json(text) == recipe
    assert Recipe.from_json("{}") == Recipe()
    assert Recipe(budget_seconds=600).to_json() == Recipe(budget_seconds=600.0).to_json()


@pytest.mark.parametrize(
    ("field", "value", "expected"),
    [
        ("matrix_lr", -0.1, "a finite number in 0.."),
        ("matrix_lr", float("nan"), "a finite number in 0.."),
        ("matrix_lr", "0.1", "a finite number in 0.."),
        ("warmup", 1.5, "a finite number in 0..1,"),
        ("batch_tokens", 0, "an integer in 1.."),
        ("batch_tokens", 8.0, "an integer in 1.."),
        ("batch_tokens", True, "an integer in 1.."),
        ("batch_tokens", 10**12, "an integer in 1..268435456"),
        ("micro_tokens", 10**30, "an integer in 0..268435456"),
        ("packed_rows", 10**30, "an integer in 0..268435456"),
        ("beta1", 1.0, "a finite number in 0..0.999999"),
        ("beta2", 1, "a finite number in 0..0.999999"),
        ("momentum", 1.0, "a finite number in 0..0.999999"),
        ("epsilon", 0.0, "a finite number in 1e-30..1"),
        ("row_normalize", 1, "true or false"),
        ("average", "mean", "one of none, ema, swa"),
        ("qat_bits", 1, "an integer in 2..16"),
    ],
)
def test_a_value_out_of_range_is_named(field: str, value: Any, expected: str) -> None:
    with pytest.raises(BadConfig, match=f"{field}; expected {expected}"):
        Recipe.from_fields({field: value})


def test_a_reserve_that_eats_the_budget_is_refused() -> None:
    with pytest.raises(BadConfig, match="reserve_seconds leaves nothing"):
        Recipe(budget_seconds=10, reserve_seconds=10)


@pytest.mark.parametrize("text", ["[]", "{", '{"muon_lr":1}'])
def test_a_recipe_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(BadConfig, match="recipe"):
        Recipe.from_json(text)
