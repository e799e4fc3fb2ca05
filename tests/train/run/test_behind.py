"""A device that works behind the host, as a GPU does: the budget holds all the same."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from squeeze.ranks.group import Ranks
from squeeze.train.optim.recipe import Recipe
from squeeze.train.run import course as course_module
from squeeze.train.run.clock import Clock
from squeeze.train.run.course import Course
from squeeze.train.run.readback import Numbers, Readback

BUDGET, STEP = 100.0, 1.0  # seconds


class Device:
    """A device that computes steps one after another, while the host is ahead by what it sends.

    now: seconds on the host's clock
    ends: seconds at which each step ends
    """

    def __init__(self, sending: float) -> None:
        self.sending, self.now = sending, 0.0
        self.ends: list[float] = []

    def step(self, progress: float) -> tuple[Tensor, Tensor]:
        """Send a step, which begins when the one before is over."""
        self.now += self.sending
        self.ends.append(max([self.now, *self.ends[-1:]]) + STEP)
        return torch.zeros(()), torch.zeros(())


@pytest.mark.parametrize("sending", [0.0, 0.1, 0.5, 1.0, 1.5])
def test_no_step_ends_after_the_budget_and_few_are_left_out(
    sending: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    device = Device(sending)

    class Behind(Readback):
        """Numbers that come one step later, and not before the device has them."""

        def __init__(self, ranks: Ranks) -> None:
            super().__init__(ranks)
            self.lag = 1

        def _read(self) -> Numbers:
            (step, _), _ = begun = super()._read()
            device.now = max(device.now, device.ends[step - 1])
            return begun

    monkeypatch.setattr(course_module, "Readback", Behind)
    trainer = SimpleNamespace(
        recipe=Recipe(budget_seconds=BUDGET),
        ranks=Ranks(),
        device=torch.device("cpu"),
        compiled=False,
        tokens=1,
        done=0,
    )

    def step(progress: float) -> tuple[Tensor, Tensor]:
        trainer.done += 1
        return device.step(progress)

    trainer.step = step
    course = Course(trainer, Clock(lambda: device.now))  # type: ignore[arg-type]
    assert [step.step for step in course.steps()] == list(range(1, trainer.done + 1))
    assert BUDGET - 4 * max(STEP, sending) <= device.ends[-1] <= BUDGET
