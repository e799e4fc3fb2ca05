"""A run from its first step to its last: limits, state on disk, and an end that all ranks agree on."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from squeeze.errors import BadConfig, SqueezeError
from squeeze.ranks.group import Ranks
from squeeze.train.data.shards import Tokens
from squeeze.train.model.config import ModelConfig
from squeeze.train.optim.recipe import Recipe
from squeeze.train.run.clock import Clock, OutOfTime
from squeeze.train.run.course import Course
from squeeze.train.run.readback import Seen
from squeeze.train.run.state import load_state, save_state
from squeeze.train.run.stop import Stopped, StopSignals
from squeeze.train.run.trainer import Trainer

RECENT = 20  # steps whose mean loss is the final one


@dataclass(frozen=True)
class Step:
    """What a progress callback sees. loss: nats per token of the whole batch, before the update.

    seconds: counted by the budget so far; seconds_left: until the run ends, estimated when it is
    limited by steps; tokens_per_second: of all ranks, since the training of this process began.
    """

    step: int
    loss: float
    tokens_per_second: float
    progress: float
    seconds: float
    seconds_left: float
    step_seconds: float
    gradient_norm: float
    rate: float  # factor on the learning rates


@dataclass(frozen=True)
class TrainResult:
    """state_dict: float32 weights on the CPU. final_loss: mean of the last steps, nats per token."""

    config: ModelConfig
    state_dict: dict[str, Tensor]
    steps: int
    tokens_seen: int
    seconds: float  # counted by the budget until training ended
    final_loss: float
    clock: Clock


class OnStep(Protocol):
    def __call__(self, step: Step, /) -> None: ...


class TrainingDiverged(SqueezeError):
    """The loss stopped being a number."""


class OutOfMemory(SqueezeError):
    """The device has too little memory for a step."""


@dataclass(frozen=True)
class Run:
    """Where and how a run happens: nothing here changes what an uninterrupted run learns.

    state: file of the run's state, written every `save_every` seconds (0: only on a request to stop)
    and removed by nobody; resume: continue from it. export_seconds: allowed for writing the model.
    """

    seed: int = 0
    ranks: Ranks = Ranks()  # noqa: RUF009  frozen
    compiled: bool = False
    state: Path | None = None
    save_every: float = 0.0
    resume: bool = False
    export_seconds: float = 0.0
    on_step: OnStep | None = None
    now: Callable[[], float] = field(default=time.perf_counter)


def train(
    config: ModelConfig,
    shards: Sequence[Tokens],
    recipe: Recipe,
    run: Run = Run(),
) -> TrainResult:
    """Train a new model on shards of tokens uint16 [n] until the recipe's budget or steps are used up.

    A step that would end after the budget is not begun. With `steps` alone the clock decides nothing:
    on a CPU the same seed, data and thread count then give the same weights, interrupted or not. All
    ranks end after the same step, and rank 0's clock is everybody's. Raises BadConfig (no limit, or a
    state of another run), BadData, OutOfTime, TrainingDiverged, OutOfMemory, Stopped (the state is saved
    when there is a place for it), RankLost.
    """
    if not (recipe.budget_seconds or recipe.steps):
        raise BadConfig(
            "training needs a limit", expected="budget_seconds or steps", found="neither"
        )
    tensors, facts = _resumed(config, recipe, run)
    clock = Clock(run.now, facts.get("clock"))
    trainer = Trainer(config, shards, recipe, run.seed, run.ranks, run.compiled)
    if facts:
        trainer.resume_(tensors, facts)
        tensors.clear()
    try:
        losses = _loop(trainer, clock, run, list(facts.get("losses", [])))
    except (torch.OutOfMemoryError, MemoryError) as error:
        raise _out_of_memory(recipe, config) from error
    if not trainer.done:
        raise OutOfTime(
            "not one step fits the budget",
            found=f"budget_seconds {recipe.budget_seconds:g}, "
            f"reserve_seconds {recipe.reserve_seconds:g}, {clock.inside():.2f} s for the setup",
            fix="Raise budget_seconds.",
        )
    with clock.stage("averaging"):
        weights = trainer.weights()
    return TrainResult(
        config=config,
        state_dict=weights,
        steps=trainer.done,
        tokens_seen=trainer.done * trainer.batch * config.seq_len,
        seconds=clock.inside(),
        final_loss=float(np.mean(losses)) if losses else float("nan"),
        clock=clock,
    )


class _Watch:
    """What the caller hears of the steps that are over, and their losses."""

    def __init__(self, course: Course, run: Run, losses: list[float]) -> None:
        self.course, self.run, self.losses = course, run, losses
        self.first = course.trainer.done

    def note(self, seen: Seen) -> None:
        """Take in a step; raises TrainingDiverged."""
        if not math.isfinite(seen.loss + seen.norm):
            raise TrainingDiverged(
                f"training diverged at step {seen.step}",
                expected="a finite loss and gradient",
                found=f"loss {seen.loss}, gradient norm {seen.norm}, before {self.losses[-3:]}",
                fix="Lower the learning rates. "
                + (f"The last good state stays in {self.run.state}." if self.run.state else ""),
            )
        self.losses = [*self.losses[1 - RECENT :], seen.loss]
        if self.run.on_step is not None and self.run.ranks.first:
            self.run.on_step(self._report(seen))

    def _report(self, seen: Seen) -> Step:
        course, trainer, governor = self.course, self.course.trainer, self.course.governor
        progress = governor.progress(seen.inside, seen.step)
        tokens = (seen.step - self.first) * trainer.batch * trainer.config.seq_len
        left = governor.seconds - seen.inside
        if not governor.timed or progress > seen.inside / governor.seconds:
            left = seen.inside * (1.0 / progress - 1.0)
        return Step(
            step=seen.step,
            loss=seen.loss,
            tokens_per_second=tokens / max(seen.training - course.begun, 1e-9),
            progress=progress,
            seconds=seen.inside,
            seconds_left=max(0.0, left),
            step_seconds=course.took,
            gradient_norm=seen.norm,
            rate=trainer.recipe.rate(progress),
        )


def _loop(trainer: Trainer, clock: Clock, run: Run, losses: list[float]) -> list[float]:
    """Step until the end; returns the last losses."""
    course = Course(trainer, clock, run.export_seconds)
    watch = _Watch(course, run, losses)
    with StopSignals() as signals:
        saved: float | None = None
        for seen in course.steps(lambda: bool(signals.name)):
            watch.note(seen)
            saved = course.began if saved is None else saved
            if run.save_every and course.elapsed - saved >= run.save_every:
                for late in course.settled():
                    watch.note(late)
                _save(trainer, clock, run, watch.losses)
                saved = course.elapsed
        if course.stopped:
            _save(trainer, clock, run, watch.losses)
            raise Stopped(
                f"stopped by {signals.name or 'another rank'} after step {trainer.done}",
                fix=f"The state is in {run.state}; continue with --resume." if run.state else "",
            )
    return watch.losses


def _save(trainer: Trainer, clock: Clock, run: Run, losses: list[float]) -> None:
    """Write the state of the run; every rank must call, rank 0 writes."""
    if run.state is None:
        return
    with clock.stage("checkpoints"):
        tensors, facts = trainer.saved()
        facts |= _identity(trainer.config, trainer.recipe, run)
        facts |= {"losses": losses, "clock": {row.stage: row.seconds for row in clock.ledger()}}
        if run.ranks.first:
            save_state(run.state, tensors, facts)


def _identity(config: ModelConfig, recipe: Recipe, run: Run) -> dict[str, Any]:
    """What must not change when a run is resumed."""
    return {"config": config.to_json(), "recipe": recipe.to_json(), "seed": run.seed}


def _resumed(
    config: ModelConfig, recipe: Recipe, run: Run
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The saved state of this very run, or nothing when it begins anew."""
    if not run.resume or run.state is None:
        return {}, {}
    tensors, facts = load_state(run.state)
    for name, mine in _identity(config, recipe, run).items():
        if facts.get(name) != mine:
            raise BadConfig(
                f"{run.state}: the state is of a run with another {name}",
                expected=facts.get(name),
                found=mine,
                fix="Resume with the options the run began with.",
            )
    return tensors, facts


def _out_of_memory(recipe: Recipe, config: ModelConfig) -> OutOfMemory:
    now = recipe.micro_tokens or recipe.batch_tokens
    return OutOfMemory(
        "out of memory in a training step",
        found=f"{now:,} tokens at once in windows of {config.seq_len:,}",
        fix=f"Set micro_tokens to {max(config.seq_len, now // 2)} or less (the batch stays the same, "
        "in parts), then lower seq_len or the model's width.",
    )
