"""Averages of weights against their definitions."""

from __future__ import annotations

import pytest
import torch

from squeeze.train.optim.averaging import Average
from squeeze.train.optim.recipe import Recipe


def averaged(recipe: Recipe, steps: int = 12) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """The average over steps of a weight that jumps about, and its values."""
    weight = torch.nn.Parameter(torch.zeros(3))
    average = Average([("w", weight)], recipe)
    values = []
    generator = torch.Generator().manual_seed(0)
    for step in range(1, steps + 1):
        weight.data = torch.randn(3, generator=generator)
        values.append(weight.detach().clone())
        average.update(step / steps, step)
    return average.result()["w"], values


def test_without_an_average_the_weights_themselves_are_the_result() -> None:
    result, values = averaged(Recipe(average="none"))
    assert torch.equal(result, values[-1])


def test_the_exponential_average_follows_its_recurrence() -> None:
    result, values = averaged(Recipe(average="ema", ema_decay=0.5))
    expected = values[0]
    for n, value in enumerate(values[1:], start=1):
        decay = min(0.5, (1 + n) / (10 + n))
        expected = decay * expected + (1 - decay) * value
    torch.testing.assert_close(result, expected)


def test_a_long_average_forgets_the_start_of_a_short_run() -> None:
    weight = torch.nn.Parameter(torch.full((1,), 100.0))
    average = Average([("w", weight)], Recipe(average="ema", ema_decay=0.9999))
    for step in range(1, 101):
        average.update(step / 100, step)
        weight.data.zero_()
    assert float(average.result()["w"]) < 0.01


@pytest.mark.parametrize(
    ("start", "every", "counted"), [(0.0, 3, [3, 6, 9, 12]), (0.5, 4, [8, 12])]
)
def test_the_plain_average_counts_every_nth_step_after_its_start_alike(
    start: float, every: int, counted: list[int]
) -> None:
    recipe = Recipe(average="swa", swa_every=every, average_start=start)
    result, values = averaged(recipe)
    torch.testing.assert_close(result, torch.stack([values[n - 1] for n in counted]).mean(0))


def test_averaging_leaves_the_weights_alone() -> None:
    weight = torch.nn.Parameter(torch.ones(2))
    average = Average([("w", weight)], Recipe(average="ema"))
    for step in range(1, 4):
        average.update(1.0, step)
        average.result()["w"].add_(1.0)
    assert torch.equal(weight.detach(), torch.ones(2))
