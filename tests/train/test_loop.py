"""Training: it learns, keeps to its limits, repeats itself, and stops when it diverges."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import numpy as np
import pytest
import torch

from squeeze.errors import BadConfig, BadData
from squeeze.train.config import ModelConfig
from squeeze.train.loop import Step, TrainingDiverged, train
from squeeze.train.recipe import Recipe

CONFIG = ModelConfig(32, 2, 32, 2, 1, 32, seq_len=16)
SMALL = Recipe(batch_tokens=128)


def tokens() -> np.ndarray:
    """A cycle of length 29 with a tenth of it noise: mostly predictable from one token."""
    random = np.random.default_rng(0)
    cycle = (np.arange(4000) * 7 % 29).astype(np.uint16)
    return np.where(random.random(4000) < 0.1, random.integers(0, 29, 4000), cycle).astype(
        np.uint16
    )


def ticking(seconds: float) -> Callable[[], float]:
    """A clock that advances by `seconds` at each reading."""
    return (tick * seconds for tick in itertools.count()).__next__


def test_the_loss_falls_far_below_guessing() -> None:
    losses: list[float] = []
    result = train(
        CONFIG, tokens(), steps=60, recipe=SMALL, on_step=lambda step: losses.append(step.loss)
    )
    assert losses[0] == pytest.approx(math.log(32), abs=0.05)
    assert result.final_loss < 1.6
    assert result.final_loss == pytest.approx(np.mean(losses[-20:]))
    assert (result.steps, result.tokens_seen) == (60, 60 * 128)


def test_the_same_seed_gives_the_same_weights() -> None:
    torch.manual_seed(0)
    first = train(CONFIG, tokens(), steps=4, seed=3, recipe=SMALL).state_dict
    torch.manual_seed(1)
    again = train(CONFIG, tokens(), steps=4, seed=3, recipe=SMALL).state_dict
    other = train(CONFIG, tokens(), steps=4, seed=4, recipe=SMALL).state_dict
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["tok_emb.weight"], other["tok_emb.weight"])


def test_the_result_is_a_whole_checkpoint_in_fp32() -> None:
    state = train(CONFIG, tokens(), steps=1, recipe=SMALL).state_dict
    assert {name: tuple(w.shape) for name, w in state.items()} == CONFIG.parameter_shapes()
    assert {w.dtype for w in state.values()} == {torch.float32}


@pytest.mark.parametrize("cap", [0.5, 2.0])
def test_the_wallclock_cap_holds(cap: float) -> None:
    result = train(CONFIG, tokens(), seconds=cap, recipe=SMALL)
    assert result.steps > 0
    assert result.seconds <= cap + 0.25  # a machine under load can stall in the last step


def test_no_step_is_begun_that_would_end_late() -> None:
    # two readings a step: each takes 1 s as the loop sees it, and the next begins 1 s later
    result = train(CONFIG, tokens(), seconds=10.0, recipe=SMALL, clock=ticking(1.0))
    assert result.steps == 5  # begun at 1, 3, 5, 7, 9: the last ends at 10, one more would not
    assert result.seconds <= 12.0


def test_the_nearer_limit_ends_the_run() -> None:
    assert train(CONFIG, tokens(), seconds=100.0, steps=2, recipe=SMALL).steps == 2
    few = train(CONFIG, tokens(), seconds=6.0, steps=99, recipe=SMALL, clock=ticking(1.0))
    assert few.steps < 5


def test_progress_tells_speed_and_time_left() -> None:
    seen: list[Step] = []
    train(CONFIG, tokens(), steps=4, recipe=SMALL, on_step=seen.append, clock=ticking(1.0))
    assert [step.step for step in seen] == [1, 2, 3, 4]
    assert [step.progress for step in seen] == [0.25, 0.5, 0.75, 1.0]
    assert seen[0].tokens_per_second == pytest.approx(128 / seen[0].seconds)
    assert seen[1].seconds_left == pytest.approx(seen[1].seconds)
    assert seen[3].seconds_left == 0.0


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_a_loss_that_is_no_number_stops_the_run() -> None:
    recipe = Recipe(batch_tokens=128, small_lr=1e30, warmup=0.0)
    with pytest.raises(TrainingDiverged, match="diverged at step"):
        train(CONFIG, tokens(), steps=50, recipe=recipe)


def test_a_run_without_a_limit_is_refused() -> None:
    with pytest.raises(BadConfig, match="needs a limit"):
        train(CONFIG, tokens())


@pytest.mark.parametrize("limit", [{"seconds": 0.0}, {"seconds": -1.0}, {"steps": 0}])
def test_a_limit_of_nothing_is_refused(limit: dict[str, float]) -> None:
    with pytest.raises(BadConfig, match="above zero"):
        train(CONFIG, tokens(), **limit)  # type: ignore[arg-type]


def test_tokens_outside_the_vocabulary_are_refused() -> None:
    with pytest.raises(BadData, match="found token 32 at position 5"):
        train(CONFIG, np.array([1, 2, 3, 4, 5, 32] * 9, np.uint16), steps=1)
