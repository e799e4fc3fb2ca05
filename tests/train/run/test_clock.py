"""The clock ledger: every second in exactly one row, and what the budget counts."""

from __future__ import annotations

import time

import pytest

from squeeze.train.optim.recipe import Recipe
from squeeze.train.run.clock import Clock, Governor, Row, check_in_time


class Fake:
    """A clock that is moved by hand."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_every_second_belongs_to_one_row() -> None:
    fake = Fake()
    clock = Clock(fake)
    fake.now += 1
    with clock.stage("compile and warm-up"):
        fake.now += 2
    with clock.stage("training"):
        fake.now += 4
        with clock.stage("checkpoints"):
            fake.now += 8
        fake.now += 16
        with clock.stage("validation"):
            fake.now += 32
    fake.now += 64
    assert clock.ledger() == [
        Row("setup", 65.0, True),
        Row("compile and warm-up", 2.0, False),
        Row("training", 20.0, True),
        Row("checkpoints", 8.0, True),
        Row("validation", 32.0, False),
    ]
    assert clock.inside() == 93.0
    assert sum(row.seconds for row in clock.ledger()) == fake.now - 100


def test_a_stage_that_fails_is_charged_all_the_same() -> None:
    fake = Fake()
    clock = Clock(fake)
    with pytest.raises(ValueError), clock.stage("training"):
        fake.now += 3
        raise ValueError
    fake.now += 1
    assert clock.ledger() == [Row("setup", 1.0, True), Row("training", 3.0, True)]


def test_a_resumed_clock_goes_on_from_what_was_spent() -> None:
    fake = Fake()
    clock = Clock(fake, {"training": 5.0, "validation": 9.0})
    fake.now += 2
    assert clock.inside() == 7.0


def test_the_reserve_has_its_row() -> None:
    rows = Clock(Fake()).ledger(Recipe(budget_seconds=600, reserve_seconds=12))
    assert rows[-1] == Row("reserve", 12.0, True)


def test_the_governor_ends_before_the_step_that_would_be_late() -> None:
    governor = Governor(Recipe(budget_seconds=100, reserve_seconds=10), export_seconds=5.0)
    governor.note_step(3.0)
    assert not governor.is_over(82.0, 9)
    assert governor.is_over(82.1, 9)
    assert Governor(Recipe(budget_seconds=100), lag=1).is_over(100.0, 1)


def test_the_governor_expects_a_slow_step_for_a_while() -> None:
    governor = Governor(Recipe(budget_seconds=100))
    governor.note_step(10.0)
    governor.note_step(1.0)
    assert governor.slowest == 9.0
    for _ in range(40):
        governor.note_step(1.0)
    assert governor.slowest == 1.0


def test_progress_follows_the_nearer_limit() -> None:
    governor = Governor(Recipe(budget_seconds=100, reserve_seconds=50, steps=10))
    assert governor.progress(10.0, 1) == pytest.approx(0.2)
    assert governor.progress(10.0, 5) == 0.5
    assert governor.progress(999.0, 0) == 1.0
    assert Governor(Recipe(steps=4)).progress(1e9, 1) == 0.25


def test_the_real_clock_keeps_time() -> None:
    clock = Clock()
    with clock.stage("training"):
        time.sleep(0.05)
    assert 0.05 <= clock.of("training") <= 0.5
    check_in_time(clock, Recipe(budget_seconds=60))
