"""Training: it learns, keeps to its limits, repeats itself, and stops when it diverges."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from squeeze.errors import BadConfig, BadData
from squeeze.ranks.group import Ranks
from squeeze.train.model.config import ModelConfig
from squeeze.train.optim.recipe import Recipe
from squeeze.train.run import training as training_module
from squeeze.train.run.clock import Clock, OutOfTime, check_in_time
from squeeze.train.run.course import StepRecord
from squeeze.train.run.readback import Readback
from squeeze.train.run.training import RunOptions, Training, TrainingDiverged, TrainResult, train
from tests.tiny_text import noisy_cycle

CONFIG = ModelConfig(32, 2, 32, 2, 1, 32, seq_len=16)


def watched(
    seed: int = 0, clock: Any = time.perf_counter, **recipe: Any
) -> tuple[TrainResult, list[StepRecord]]:
    """Train CONFIG on `noisy_cycle(4000)` with batches of 128; return the result and every step."""
    settings = Recipe(**{"batch_tokens": 128, **recipe})
    training = Training(CONFIG, [noisy_cycle(4000)], settings, RunOptions(seed=seed, now=clock))
    steps = list(training.steps())
    return training.result(), steps


def run(**options: Any) -> TrainResult:
    """Train as `watched` does, for the result alone."""
    return watched(**options)[0]


def ticking(seconds: float) -> Callable[[], float]:
    """A clock that advances by `seconds` at each reading."""
    return (tick * seconds for tick in itertools.count()).__next__


def test_the_loss_falls_far_below_guessing() -> None:
    result, steps = watched(steps=60)
    losses = [step.loss for step in steps]
    assert losses[0] == pytest.approx(math.log(32), abs=0.05)
    assert result.final_loss < 1.6
    assert result.final_loss == pytest.approx(np.mean(losses[-20:]))
    assert (result.steps, result.tokens_seen) == (60, 60 * 128)


def test_the_same_seed_gives_the_same_weights() -> None:
    torch.manual_seed(0)
    first = run(steps=4, seed=3).state_dict
    torch.manual_seed(1)
    again = run(steps=4, seed=3).state_dict
    other = run(steps=4, seed=4).state_dict
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["tok_emb.weight"], other["tok_emb.weight"])


def test_the_result_is_a_whole_checkpoint_in_fp32() -> None:
    state = run(steps=1).state_dict
    assert {name: tuple(w.shape) for name, w in state.items()} == CONFIG.parameter_shapes()
    assert {w.dtype for w in state.values()} == {torch.float32}


def test_a_batch_in_parts_learns_the_same() -> None:
    whole = run(steps=5).state_dict
    parts = run(steps=5, micro_tokens=48).state_dict
    for name, weight in whole.items():
        torch.testing.assert_close(parts[name], weight, atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("cap", [1.0, 2.0])
def test_the_wallclock_cap_holds(cap: float) -> None:
    start = time.perf_counter()
    result, steps = watched(budget_seconds=cap)
    slowest = max(step.step_seconds for step in steps)
    assert result.steps > 0
    assert time.perf_counter() - start <= cap + slowest + 0.05
    assert result.seconds <= cap + slowest


def test_no_step_is_begun_that_would_end_late() -> None:
    # each reading of the clock takes 1 s; a step is some readings, all of the same length
    result, steps = watched(budget_seconds=60.0, clock=ticking(1.0))
    step_seconds = steps[-1].step_seconds
    assert {step.step_seconds for step in steps[1:]} == {step_seconds}
    last = steps[-1].seconds
    assert last <= 60.0 < last + 2 * step_seconds
    assert result.seconds <= 60.0 + 5  # readings after the last step


def test_the_reserve_is_left_over() -> None:
    _, steps = watched(budget_seconds=60.0, reserve_seconds=25.0, clock=ticking(1.0))
    last = steps[-1]
    assert last.seconds <= 35.0 < last.seconds + 2 * last.step_seconds


def test_the_nearer_limit_ends_the_run() -> None:
    assert run(budget_seconds=100.0, steps=2).steps == 2
    assert run(budget_seconds=25.0, steps=99, clock=ticking(1.0)).steps < 13


def test_nothing_is_exported_after_the_budget() -> None:
    clock = Clock(ticking(1.0))
    check_in_time(clock, Recipe(budget_seconds=100.0))
    with pytest.raises(OutOfTime, match=r"nothing was exported; expected ≤ 1 s, found \d"):
        check_in_time(clock, Recipe(budget_seconds=1.0))


def test_progress_tells_speed_and_time_left() -> None:
    _, steps = watched(steps=4, clock=ticking(1.0))
    assert [step.step for step in steps] == [1, 2, 3, 4]
    assert [step.progress for step in steps] == [0.25, 0.5, 0.75, 1.0]
    assert steps[0].tokens_per_second == pytest.approx(128 / steps[0].step_seconds)
    assert steps[1].seconds_left == pytest.approx(steps[1].seconds)
    assert steps[3].seconds_left == 0.0


def test_the_rate_of_a_step_is_the_one_it_was_taken_with() -> None:
    _, steps = watched(steps=4, warmup=0.5)
    recipe = Recipe(batch_tokens=128, steps=4, warmup=0.5)
    assert [step.rate for step in steps] == [recipe.rate(n / 4) for n in range(4)]
    assert steps[-1].rate > 0


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_a_loss_that_is_no_number_stops_the_run() -> None:
    with pytest.raises(TrainingDiverged, match="diverged at step"):
        run(steps=50, small_lr=1e30, warmup=0.0)


def test_a_run_without_a_limit_is_refused() -> None:
    with pytest.raises(BadConfig, match="needs a limit"):
        run()


def test_a_budget_without_room_for_a_step_is_refused() -> None:
    with pytest.raises(OutOfTime, match="not one step fits the budget"):
        run(budget_seconds=1.0, clock=ticking(1.0))


def test_tokens_outside_the_vocabulary_are_refused() -> None:
    with pytest.raises(BadData, match=r"found token 32 at position \d+ of shard 0"):
        train(CONFIG, [np.array([1, 2, 3, 4, 5, 32] * 9, np.uint16)], Recipe(steps=1))


def test_numbers_that_come_back_a_step_later_change_nothing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    expected, at_once = watched(steps=9)
    create = Readback.__init__

    def lagging(self: Readback, ranks: Ranks) -> None:
        create(self, ranks)
        self.lag = 1  # as on a GPU

    monkeypatch.setattr(Readback, "__init__", lagging)
    settings = Recipe(batch_tokens=128, steps=9)
    options = RunOptions(state=tmp_path / "s", save_every=1e-9)
    training = Training(CONFIG, [noisy_cycle(4000)], settings, options)
    later = list(training.steps())
    result = training.result()
    assert [step.loss for step in later] == [step.loss for step in at_once]
    assert [step.step for step in later] == list(range(1, 10))
    assert [step.rate for step in later] == [step.rate for step in at_once]
    assert result.final_loss == expected.final_loss
    state = expected.state_dict
    assert all(torch.equal(result.state_dict[name], state[name]) for name in state)
    with pytest.raises(TrainingDiverged):
        run(steps=50, small_lr=1e30, warmup=0.0)


def test_a_caller_may_leave_the_loop_and_take_the_model_as_it_is() -> None:
    settings = Recipe(batch_tokens=128, steps=50)
    training = Training(CONFIG, [noisy_cycle(4000)], settings)
    for step in training.steps():
        if step.step == 3:
            break
    result = training.result()
    assert (result.steps, result.tokens_seen) == (3, 3 * 128)


@pytest.mark.parametrize(
    ("asked", "given"), [("auto", "native"), ("bf16", "bf16"), ("fp32", "fp32")]
)
def test_a_gpu_without_bf16_is_not_made_to_emulate_it_unasked(
    asked: str, given: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipes: list[Recipe] = []
    current: list[torch.device] = []

    class Recorder:
        """A trainer that keeps its recipe."""

        def __init__(self, config: ModelConfig, shards: Any, recipe: Recipe, *_: Any) -> None:
            recipes.append(recipe)

        def compile_(self) -> None:
            pass

    monkeypatch.setattr(training_module, "Trainer", Recorder)
    monkeypatch.setattr(torch.cuda, "set_device", current.append)
    gpu = torch.device("cuda", 1)
    recipe = Recipe(batch_tokens=64, steps=1, precision=asked)
    training = Training(CONFIG, [noisy_cycle(400)], recipe, RunOptions(ranks=Ranks(device=gpu)))
    assert [each.precision for each in recipes] == [given] and training.recipe is recipe
    assert current == [gpu]  # streams and events of the run are then of its GPU
