"""The steps of a run: one after the other until a limit is met, on all ranks alike."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import starmap

from squeeze.train.run.clock import Clock, Governor
from squeeze.train.run.readback import Begun, Readback
from squeeze.train.run.trainer import Trainer, compilations


@dataclass(frozen=True)
class StepRecord:
    """A step that is over, in numbers that all ranks agree on; one line of a run's log.

    step: its number, from 1
    loss: nats per token of the whole batch, before the update
    tokens_per_second: of all ranks, since this process began to train
    progress: fraction 0…1 of the run that is done
    seconds: counted by the budget so far, on rank 0's clock
    seconds_left: until the run ends, estimated where the number of steps ends it
    step_seconds: duration of the step
    gradient_norm: norm of all gradients, before clipping
    rate: factor on the learning rates, of this step
    """

    step: int
    loss: float
    tokens_per_second: float
    progress: float
    seconds: float
    seconds_left: float
    step_seconds: float
    gradient_norm: float
    rate: float


class Course:
    """The steps of a trainer under the limits of its recipe, on rank 0's clock.

    export_seconds: time to keep for writing the model

    elapsed: seconds that count, up to the last step that is known to be over
    started: the same before the first step of this process
    stopped: True once any rank was asked to stop
    """

    def __init__(self, trainer: Trainer, clock: Clock, export_seconds: float = 0.0) -> None:
        self.trainer, self.clock = trainer, clock
        self.readback = Readback(trainer.ranks)
        export_seconds = trainer.ranks.from_first(export_seconds)
        # a step's clock is read when it is sent, which is a step before the device begins it, and
        # known when it is over: three steps are then under way or about to be
        self.governor = Governor(trainer.recipe, export_seconds, 3 * self.readback.lag)
        self.elapsed = self.started = 0.0
        self.stopped = False

    def steps(self, stop_requested: Callable[[], bool] = lambda: False) -> Iterator[StepRecord]:
        """Train until a limit is met or any rank is asked to stop; yield each step once it is over."""
        trainer, clock, ranks = self.trainer, self.clock, self.trainer.ranks
        if trainer.compiled or trainer.device.type == "cuda":
            with clock.stage("compile and warm-up"):
                trainer.warm_up()
                ranks.on_all(True)  # waiting for the slowest rank is not charged either
        self._compilations = compilations()
        self._first_step = trainer.done
        self._training_start = self._training = ranks.from_first(clock.of("training"))
        self.elapsed = self.started = ranks.from_first(clock.inside())
        first = float(ranks.first)
        with clock.stage("training"):
            while not (self.stopped or self.governor.is_over(self.elapsed, trainer.done)):
                progress = self.governor.progress(self.elapsed, trainer.done)
                loss, norm = trainer.step(progress)
                self._check_compilations()
                times = clock.inside() * first, clock.of("training") * first
                sums = self.readback.push(
                    (trainer.done, trainer.recipe.rate(progress)),
                    (loss / ranks.world, norm / ranks.world),
                    (*times, float(stop_requested())),
                )
                yield from starmap(self._record, sums)
            yield from self.settle()

    def _check_compilations(self) -> None:
        """Warn of a model that was compiled again after the warm-up, which costs the budget minutes."""
        count = compilations()
        if count > self._compilations:
            warnings.warn(
                f"step {self.trainer.done}: torch.compile made {count - self._compilations} graphs "
                "after the warm-up, within the budget",
                stacklevel=2,
            )
        self._compilations = count

    def settle(self) -> Iterator[StepRecord]:
        """Wait for the steps that are still under way, and yield them."""
        return starmap(self._record, self.readback.drain())

    def _record(self, begun: Begun, sums: list[float]) -> StepRecord:
        """Take in what `steps` sent: number and rate of a step, and the sums over the ranks."""
        step, rate = begun
        loss, norm, seconds, training, stop_requests = sums
        step_seconds = training - self._training
        self._training, self.elapsed = training, seconds
        self.stopped |= stop_requests > 0
        trainer, governor = self.trainer, self.governor
        governor.note_step(step_seconds)
        progress = governor.progress(seconds, step)
        tokens = (step - self._first_step) * trainer.tokens
        speed = tokens / max(training - self._training_start, 1e-9)
        left = governor.seconds_left(seconds, progress)
        # by position: this file ships in bundles, to the byte
        return StepRecord(step, loss, speed, progress, seconds, left, step_seconds, norm, rate)
