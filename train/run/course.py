"""The steps of a run: one after the other until a limit is met, on all ranks alike."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from squeeze.train.run.clock import Clock, Governor
from squeeze.train.run.readback import Readback, Seen
from squeeze.train.run.trainer import Trainer


class Course:
    """A trainer under the limits of its recipe, on rank 0's clock.

    elapsed: seconds that count, at the last step that is known to be over; began: the same before the
    first; begun: seconds of training before it; took: seconds of the last step. stopped: whether any
    rank was asked to stop. export: seconds to allow for writing the result.
    """

    def __init__(self, trainer: Trainer, clock: Clock, export: float = 0.0) -> None:
        self.trainer, self.clock = trainer, clock
        self.readback = Readback(trainer.ranks)
        self.governor = Governor(
            trainer.recipe, trainer.ranks.from_first(export), self.readback.lag
        )
        self.elapsed = self.began = self.begun = self.took = 0.0
        self.stopped = False

    def steps(self, asked: Callable[[], bool] = lambda: False) -> Iterator[Seen]:
        """Train until the end, or until some rank is asked to stop; yields each step once it is over."""
        trainer, clock, readback = self.trainer, self.clock, self.readback
        if trainer.compiled or trainer.device.type == "cuda":
            with clock.stage("compile and warm-up"):
                trainer.warm_up()
        self._training = self.begun = trainer.ranks.from_first(clock.of("training"))
        self.elapsed = self.began = trainer.ranks.from_first(clock.inside())
        with clock.stage("training"):
            while not (self.stopped or self.governor.over(self.elapsed, trainer.done)):
                loss, norm = trainer.step(self.governor.progress(self.elapsed, trainer.done))
                now = clock.inside(), clock.of("training")
                yield from self._noted(readback.push(trainer.done, loss, norm, *now, asked()))
            yield from self.settled()

    def settled(self) -> Iterator[Seen]:
        """The steps that are still under way."""
        return self._noted(self.readback.drain())

    def _noted(self, found: Iterable[Seen]) -> Iterator[Seen]:
        for seen in found:
            self.took = seen.training - self._training
            self._training, self.elapsed = seen.training, seen.inside
            self.governor.took(self.took)
            self.stopped |= seen.stopped
            yield seen
