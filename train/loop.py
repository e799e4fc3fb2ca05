"""One process, one clock: train a model until the time is up."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from squeeze.errors import BadConfig, SqueezeError
from squeeze.train.config import ModelConfig
from squeeze.train.data import Batch, Tokens, check_vocab, windows
from squeeze.train.model import GPT
from squeeze.train.optim import Muon, split_parameters
from squeeze.train.recipe import Recipe


@dataclass(frozen=True)
class Step:
    """What a progress callback sees. loss: nats per token of the batch; seconds: since the start."""

    step: int
    loss: float
    tokens_per_second: float
    progress: float
    seconds: float
    seconds_left: float  # estimated when the run is limited by steps


@dataclass(frozen=True)
class TrainResult:
    """state_dict: float32 weights on the CPU. final_loss: mean of the last steps, nats per token."""

    config: ModelConfig
    state_dict: dict[str, Tensor]
    steps: int
    tokens_seen: int
    seconds: float
    final_loss: float


class OnStep(Protocol):
    def __call__(self, step: Step, /) -> None: ...


class TrainingDiverged(SqueezeError):
    """The loss stopped being a number."""


def train(
    config: ModelConfig,
    tokens: Tokens,
    *,
    seconds: float | None = None,
    steps: int | None = None,
    seed: int = 0,
    recipe: Recipe = Recipe(),  # noqa: B008  frozen
    device: str = "cpu",
    on_step: OnStep | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> TrainResult:
    """Train a new model on tokens uint16 [n] until `seconds` or `steps` are used up.

    A step that would end after the limit is not begun. With `steps` alone the clock decides nothing,
    so on a CPU the same seed, data and thread count give the same weights. fp32 on a CPU, bfloat16
    autocast on a GPU. Raises BadConfig (no limit), BadData (tokens), TrainingDiverged.
    """
    if seconds is None and steps is None:
        raise BadConfig("training needs a limit", expected="seconds or steps", found="neither")
    if any(limit is not None and limit <= 0 for limit in (seconds, steps)):
        raise BadConfig("limits must be above zero", found=f"seconds {seconds}, steps {steps}")
    check_vocab(tokens, config.vocab_size)
    started = clock()
    model = GPT(config, seed).to(device)
    optimizers = _optimizers(model, recipe)
    peaks = [group["lr"] for optimizer in optimizers for group in optimizer.param_groups]
    batch = max(1, recipe.batch_tokens // config.seq_len)
    done, losses = 0, list[float]()
    slowest = 0.0  # of the recent steps: what the next may take
    for inputs, targets in windows(tokens, config.seq_len, batch, seed):
        begun = clock()
        progress = _progress(begun - started, seconds, done, steps)
        if progress >= 1.0 or (seconds is not None and begun - started + slowest > seconds):
            break
        groups = [group for optimizer in optimizers for group in optimizer.param_groups]
        for group, peak in zip(groups, peaks, strict=True):
            group["lr"] = peak * recipe.rate(progress)
        loss, norm = _gradients(model, inputs, targets, recipe.grad_clip)
        if not math.isfinite(loss + norm):
            raise TrainingDiverged(
                f"training diverged at step {done + 1}",
                expected="a finite loss and gradient",
                found=f"loss {loss}, gradient norm {norm}, losses before {losses[-3:]}",
                fix="Lower the learning rates.",
            )
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()
        done += 1
        losses.append(loss)
        now = clock()
        slowest = max(now - begun, 0.9 * slowest)
        if on_step is not None:
            on_step(_report(done, loss, batch * config.seq_len, now - started, seconds, steps))
    state = {name: weight.detach().float().cpu() for name, weight in model.state_dict().items()}
    return TrainResult(
        config=config,
        state_dict=state,
        steps=done,
        tokens_seen=done * batch * config.seq_len,
        seconds=clock() - started,
        final_loss=float(np.mean(losses[-20:])) if losses else float("nan"),
    )


def _optimizers(model: GPT, recipe: Recipe) -> list[torch.optim.Optimizer]:
    matrices, tables, small = split_parameters(model.named_parameters())
    adam = torch.optim.AdamW(
        [{"params": tables, "lr": recipe.table_lr}, {"params": small, "lr": recipe.small_lr}],
        betas=(0.9, 0.95),
        eps=1e-8,
        weight_decay=0.0,
    )
    return [Muon(matrices, recipe.matrix_lr, recipe.momentum), adam]


def _gradients(model: GPT, inputs: Batch, targets: Batch, grad_clip: float) -> tuple[float, float]:
    """Fill the clipped gradients; returns the loss (nats per token) and the norm before clipping."""
    device = model.tok_emb.weight.device
    ids, goal = torch.from_numpy(inputs).to(device), torch.from_numpy(targets).to(device)
    with torch.autocast("cuda", torch.bfloat16, enabled=device.type == "cuda"):
        loss = model.loss(ids, goal)
    loss.backward()
    norm = torch.nn.utils.clip_grad_norm_(model.parameters(), grad_clip)
    return float(loss.detach()), float(norm)


def _progress(elapsed: float, seconds: float | None, done: int, steps: int | None) -> float:
    """Fraction of the run that is over, by the limit that will end it first."""
    by_time = elapsed / seconds if seconds else 0.0
    by_steps = done / steps if steps else 0.0
    return max(by_time, by_steps)


def _report(
    done: int, loss: float, tokens: int, elapsed: float, seconds: float | None, steps: int | None
) -> Step:
    progress = min(1.0, _progress(elapsed, seconds, done, steps))
    left = elapsed * (1.0 / progress - 1.0) if progress else float("inf")
    return Step(done, loss, done * tokens / elapsed, progress, elapsed, left)
