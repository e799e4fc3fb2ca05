"""A run from its first step to its last: limits, state on disk, and an end that all ranks agree on."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from squeeze.errors import BadConfig, SqueezeError
from squeeze.ranks.group import Ranks
from squeeze.train.data.shards import Tokens
from squeeze.train.model.config import ModelConfig
from squeeze.train.optim.recipe import Recipe
from squeeze.train.run.batches import check_batches, row_length
from squeeze.train.run.clock import Clock, OutOfTime
from squeeze.train.run.course import Course, StepRecord
from squeeze.train.run.identity import RunIdentity
from squeeze.train.run.notes import notes_on
from squeeze.train.run.state import load_state, save_state
from squeeze.train.run.stop import Stopped, StopSignals
from squeeze.train.run.trainer import Trainer

RECENT = 20  # steps whose mean loss is the final one


class TrainingDiverged(SqueezeError):
    """Error of a run whose loss or gradient is no number."""


class OutOfMemory(SqueezeError):
    """Error of a device with too little memory for a step."""


@dataclass(frozen=True)
class RunOptions:
    """Surroundings of a run; but for the seed, none changes what an uninterrupted run learns.

    seed: of the first weights and of the order of the data
    ranks: this process among those of the run
    compiled: run the model through torch.compile; None: on a GPU
    state: file for the state of the run, which nothing here removes
    save_every: seconds between two saves of the state; 0: only on a request to stop
    resume: continue from the state
    export_seconds: time to keep for writing the model
    now: clock in seconds, from any fixed moment
    """

    seed: int = 0
    ranks: Ranks = Ranks()  # noqa: RUF009  frozen
    compiled: bool | None = None
    state: Path | None = None
    save_every: float = 0.0
    resume: bool = False
    export_seconds: float = 0.0
    now: Callable[[], float] = time.perf_counter


@dataclass(frozen=True)
class TrainResult:
    """A trained model.

    state_dict: float32 weights on the CPU
    seconds: counted by the budget until training ended
    final_loss: mean of the last steps, nats per token
    notes: settings that the run was too short for, as sentences
    """

    config: ModelConfig
    state_dict: dict[str, Tensor]
    steps: int
    tokens_seen: int
    seconds: float
    final_loss: float
    clock: Clock
    notes: tuple[str, ...] = ()


class Training:
    """A run of a new model on shards of tokens uint16 [n]: loop over `steps()`, then take `result()`.

    >>> config = ModelConfig(64, 1, 32, 2, 1, 32, seq_len=8)
    >>> training = Training(config, [np.arange(64, dtype=np.uint16)], Recipe(batch_tokens=16, steps=2))
    >>> for step in training.steps():
    ...     print(f"step {step.step} of 2: {step.progress:.0%} done")
    step 1 of 2: 50% done
    step 2 of 2: 100% done
    >>> training.result().tokens_seen
    32

    Raises BadConfig for a recipe without a limit or with a batch below a window, or a state of another
    run; BadCheckpoint for a file that is no state; BadData for shards that cannot be trained on.
    """

    def __init__(
        self,
        config: ModelConfig,
        shards: Sequence[Tokens],
        recipe: Recipe,
        options: RunOptions = RunOptions(),
    ) -> None:
        if not (recipe.budget_seconds or recipe.steps):
            raise BadConfig(
                "training needs a limit", expected="budget_seconds or steps", found="neither"
            )
        check_batches(config, recipe)
        self.config, self.recipe, self.options = config, recipe, options
        self.identity = RunIdentity(config, recipe, options.seed, shards)
        tensors, facts = self._saved_state()
        self._has_state = bool(facts)  # of this run: it resumed from one, or wrote one
        self.clock = Clock(options.now, facts.get("clock"))
        on_gpu = options.ranks.device.type == "cuda"
        if on_gpu:
            torch.cuda.set_device(options.ranks.device)  # whose streams and events are then meant
            if (
                recipe.precision == "auto"
            ):  # a GPU of before 2020 emulates bf16, in many times the time
                recipe = replace(recipe, precision="native")
        self.trainer = Trainer(config, shards, recipe, options.seed, options.ranks)
        if on_gpu if options.compiled is None else options.compiled:
            self.trainer.compile_()
        if facts:
            self.trainer.resume_(tensors, facts)
        self.recent_losses: list[float] = list(facts.get("losses", []))

    def steps(self) -> Iterator[StepRecord]:
        """Train until the recipe's budget or steps are used up; yield each step once it is over.

        A step that would end after the budget is not begun. With `steps` alone the clock decides
        nothing: on a CPU the same seed, data and thread count then give the same weights, interrupted
        or not. All ranks end after the same step. While a step is looked at, the clock runs.

        Raises OutOfTime when not one step fits, TrainingDiverged, OutOfMemory, RankLost, and Stopped
        after a signal, with the state saved when there is a file for it. Loop over it once.
        """
        try:
            yield from self._steps()
        except (torch.OutOfMemoryError, MemoryError) as error:
            raise self._out_of_memory() from error
        if not self.trainer.done:
            raise OutOfTime(
                "not one step fits the budget",
                found=f"budget_seconds {self.recipe.budget_seconds:g}, "
                f"reserve_seconds {self.recipe.reserve_seconds:g}, "
                f"{self.clock.inside():.2f} s for the setup",
                fix="Raise budget_seconds.",
            )

    def result(self) -> TrainResult:
        """Return the model as it is now: weights averaged where the recipe asks for it."""
        with self.clock.stage("averaging"):
            weights = self.trainer.weights()
            # the last update has no next loss that would show it
            broken = [name for name, weight in weights.items() if not weight.isfinite().all()]
        if broken:
            raise self._diverged(f"weights that are no numbers in {broken[0]}")
        return TrainResult(
            config=self.config,
            state_dict=weights,
            steps=self.trainer.done,
            tokens_seen=self.trainer.done * self.trainer.tokens,
            seconds=self.clock.inside(),
            final_loss=float(np.mean(self.recent_losses)) if self.recent_losses else math.nan,
            clock=self.clock,
            notes=notes_on(self.trainer),
        )

    def _steps(self) -> Iterator[StepRecord]:
        options = self.options
        course = Course(self.trainer, self.clock, options.export_seconds)
        saved_at = 0.0  # seconds that counted at the last save
        with StopSignals() as signals:
            for step in course.steps(lambda: bool(signals.name)):
                yield self._checked(step)
                since = course.elapsed - max(saved_at, course.started)
                if options.save_every and since >= options.save_every:
                    yield from map(self._checked, course.settle())
                    self._save()
                    saved_at = course.elapsed
            if course.stopped:
                self._save()
                raise Stopped(
                    f"stopped by {signals.name or 'another rank'} after step {self.trainer.done}",
                    fix=f"The state is in {options.state}; continue with --resume."
                    if options.state
                    else "",
                )

    def _checked(self, step: StepRecord) -> StepRecord:
        """Return a step whose loss and gradient are numbers, and keep the loss."""
        if not math.isfinite(step.loss + step.gradient_norm):
            numbers = f"loss {step.loss}, gradient norm {step.gradient_norm}"
            raise self._diverged(f"{numbers}, before {self.recent_losses[-3:]}", step.step)
        self.recent_losses = [*self.recent_losses[1 - RECENT :], step.loss]
        return step

    def _diverged(self, numbers: str, step: int | None = None) -> TrainingDiverged:
        """Return the error of a run with these numbers; step: None for the last."""
        state = f"The last good state stays in {self.options.state}." if self._has_state else ""
        return TrainingDiverged(
            f"training diverged at step {step or self.trainer.done}",
            expected="finite losses, gradients and weights",
            found=numbers,
            fix=f"Lower the learning rates. {state}",
        )

    def _save(self) -> None:
        """Write the state of the run; every rank must call, rank 0 writes."""
        if self.options.state is None:
            return
        with self.clock.stage("checkpoints"):
            tensors, facts = self.trainer.saved()
            facts |= self.identity.facts()
            facts["losses"] = self.recent_losses
            facts["clock"] = {row.stage: row.seconds for row in self.clock.ledger()}
            if self.options.ranks.first:
                save_state(self.options.state, tensors, facts)
            self._has_state = True

    def _saved_state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Return tensors and facts of the saved state of this very run; empty when it begins anew."""
        path = self.options.state
        if not self.options.resume or path is None:
            return {}, {}
        tensors, facts = load_state(path)
        self.identity.check(path, facts)
        return tensors, facts

    def _out_of_memory(self) -> OutOfMemory:
        recipe, length = self.recipe, row_length(self.config, self.recipe)
        at_once = recipe.micro_tokens or recipe.batch_tokens
        return OutOfMemory(
            "out of memory in a training step",
            found=f"{at_once:,} tokens at once in rows of {length:,}",
            fix=f"Set micro_tokens to {max(length, at_once // 2)} or less (the batch stays the same, "
            "in parts), then lower seq_len or the model's width.",
        )


def train(
    config: ModelConfig,
    shards: Sequence[Tokens],
    recipe: Recipe,
    options: RunOptions = RunOptions(),
) -> TrainResult:
    """Train to the end and return the result, for callers that look at no step (see `Training`)."""
    training = Training(config, shards, recipe, options)
    for _ in training.steps():
        pass
    return training.result()
