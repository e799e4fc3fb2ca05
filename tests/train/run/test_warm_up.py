"""A warm-up takes whole steps and leaves nothing behind; compiled models are compiled once."""

from __future__ import annotations

import warnings
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from squeeze.train.model import attention
from squeeze.train.model.attention import Reach, Rule
from squeeze.train.model.documents import document_bounds, document_starts
from squeeze.train.optim.recipe import Recipe
from squeeze.train.presets import PRESETS
from squeeze.train.run import course as course_module
from squeeze.train.run.clock import Clock
from squeeze.train.run.course import Course
from squeeze.train.run.trainer import Trainer, compilations
from tests.tiny_models import BOS, NARROW, VOCAB


@pytest.fixture(autouse=True)
def compiling() -> None:
    """Models of scripts, which other tests load, leave torch in the stance that compiles nothing."""
    torch.compiler.set_stance("default")


RECIPE = Recipe(batch_tokens=64, average="ema", recurrence_start=0.5, steps=4)


def tokens(share: float = 0.05) -> np.ndarray:  # type: ignore[type-arg]
    """Random tokens, of which a share begins documents."""
    random = np.random.default_rng(0)
    ids = random.integers(BOS + 1, VOCAB, 4000).astype(np.uint16)
    ids[random.random(4000) < share] = BOS
    return ids


def trainer_of(name: str, recipe: Recipe = RECIPE, share: float = 0.05) -> Trainer:
    return Trainer(NARROW[name], [tokens(share)], recipe)


@pytest.mark.parametrize("name", ["baseline", "record-1204"])
def test_a_run_after_a_warm_up_is_the_run_without_one(name: str) -> None:
    recipe = replace(RECIPE, table_precision="bf16")
    cold, warm = trainer_of(name, recipe), trainer_of(name, recipe)
    warm.warm_up()
    for progress in (0.0, 0.2, 0.6, 0.9):
        for ours, plain in zip(warm.step(progress), cold.step(progress), strict=True):
            assert torch.equal(ours, plain)
    weights = warm.weights()
    assert all(torch.equal(weights[key], weight) for key, weight in cold.weights().items())


def test_a_warm_up_in_the_middle_of_a_run_keeps_the_state_of_the_optimizer() -> None:
    cold, warm = trainer_of("baseline"), trainer_of("baseline")
    for trainer in (cold, warm):
        trainer.step(0.1)
    warm.warm_up()
    assert torch.equal(warm.step(0.2)[0], cold.step(0.2)[0])
    assert torch.equal(warm.step(0.3)[0], cold.step(0.3)[0])


def test_batches_that_do_not_fit_are_computed_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    small, plain = trainer_of("baseline"), trainer_of("baseline")
    whole = small.loss

    def loss(ids: Tensor, targets: Tensor, reach: object) -> Tensor:
        if len(ids) > 1:
            raise torch.OutOfMemoryError("too much")
        return whole(ids, targets, reach)  # type: ignore[arg-type]

    monkeypatch.setattr(small, "loss", loss)
    with pytest.warns(UserWarning, match="out of memory: .* in parts of 2 rows"):
        small.warm_up()
    assert small.rows == 1
    torch.testing.assert_close(small.step(0.1)[0], plain.step(0.1)[0])


def test_not_even_one_row_that_fits_ends_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    def loss(ids: Tensor, targets: Tensor, reach: object) -> Tensor:
        raise torch.OutOfMemoryError("too much")

    trainer = trainer_of("baseline")
    monkeypatch.setattr(trainer, "loss", loss)
    with pytest.raises(torch.OutOfMemoryError), warnings.catch_warnings(action="ignore"):
        trainer.warm_up()


def test_a_model_that_is_compiled_again_during_the_run_is_reported(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    counts = iter([2, 2, 3, 3, 3])
    monkeypatch.setattr(course_module, "compilations", lambda: next(counts))
    course = Course(trainer_of("baseline"), Clock())
    with pytest.warns(UserWarning, match="step 2: torch.compile made 1 graphs") as caught:
        assert len(list(course.steps())) == 4
    assert len(caught) == 1


def test_waiting_for_the_slowest_rank_is_part_of_the_warm_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = [0.0]
    trainer = trainer_of("baseline")
    trainer.compiled = True
    monkeypatch.setattr(trainer, "warm_up", lambda: None)

    def on_all(ranks: object, condition: bool) -> bool:
        now[0] += 100.0
        return condition

    monkeypatch.setattr(type(trainer.ranks), "on_all", on_all)
    clock = Clock(lambda: now[0])
    list(Course(trainer, clock).steps())
    assert clock.inside() == 0.0 and clock.of("compile and warm-up") == 100.0


SLOW = ("tiny", "record-1493", "record-1204", "record-1855")  # all are traced in test_options


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=pytest.mark.slow) if name in SLOW else name for name in PRESETS],
)
def test_a_preset_is_one_graph_for_each_state_of_recurrence(name: str) -> None:
    recipe = replace(PRESETS[name].recipe, batch_tokens=128, packed_rows=2, recurrence_step=0)
    trainer = trainer_of(name, replace(recipe, recurrence_start=0.5))
    torch._dynamo.reset()
    trainer.loss = torch.compile(trainer.model.loss, backend="eager", dynamic=False, fullgraph=True)
    before = compilations()
    for step in range(20):
        trainer.step(step / 20)
    assert compilations() - before == (2 if NARROW[name].layer_schedule else 1)


def test_ranks_lower_their_parts_together(monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = trainer_of("baseline")
    answers = iter([False, True])  # another rank ran out of memory once, this one did not
    monkeypatch.setattr(type(trainer.ranks), "on_all", lambda ranks, condition: next(answers))
    with pytest.warns(UserWarning, match="out of memory: .* in parts of 2 rows"):
        trainer.warm_up()
    assert trainer.rows == 2


def test_bounds_of_any_length_are_one_graph(monkeypatch: pytest.MonkeyPatch) -> None:
    lengths = set()

    class Flash:
        """FlashAttention-3 by its signature; its result depends on every input."""

        @staticmethod
        def flash_attn_varlen_func(q: Tensor, k: Tensor, v: Tensor, **options: Any) -> Tensor:
            more = (k + v).repeat_interleave(q.size(1) // k.size(1), 1)
            return q + more + 0.0 * options["cu_seqlens_q"].sum()

    def reach_of(rule: Rule, ids: Tensor, dtype: torch.dtype, host: Tensor | None) -> Reach:
        bounds = document_bounds(document_starts(ids, rule.bos_id, rule.cut))
        lengths.add(len(bounds))
        return Reach(bounds, ids.size(1))

    monkeypatch.setattr(attention, "flash", Flash)
    monkeypatch.setattr(attention, "reach_of", reach_of)
    recipe = replace(RECIPE, batch_tokens=128, packed_rows=2, recurrence_start=0.0)
    trainer = trainer_of("record-1855", recipe, share=0.5)
    torch._dynamo.reset()
    trainer.loss = torch.compile(trainer.model.loss, backend="eager", dynamic=False, fullgraph=True)
    before = compilations()
    for _ in range(12):
        trainer.step(0.1)
    assert lengths == {64, 128}
    assert compilations() - before == 1
