"""The recipe of a training: every hyperparameter in one frozen, validated record. No torch here.

`ModelConfig` holds the shape of the model (its `seq_len` is also the training window), and
`squeeze.train.run.training.RunOptions` the surroundings: device, files, compilation, seed.
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from typing import Any

from squeeze.errors import BadConfig
from squeeze.train.fields import (
    VALIDATING,
    check,
    choice,
    kind_of,
    number,
    read_object,
    refuse_unknown,
)

HUGE, TINY = 1e30, 1e-30  # bounds of what has no natural ones
BELOW_ONE = 0.999999  # a mean that never takes in anything is none
BATCH = 1 << 28  # tokens; a hundred times what anybody trains on, and 2 GiB as the loader has them

ORTHOGONALIZERS = ("newton-schulz", "polar-express")
AVERAGES = ("none", "ema", "swa")
PRECISIONS = ("auto", "native", "fp32", "bf16")
DTYPES = ("fp32", "bf16")
STARTS = ("orthogonal", "uniform")


@dataclass(frozen=True)
class Recipe:
    """All hyperparameters of a training run; raises BadConfig for a value out of range.

    "Fraction" means of the run: of `budget_seconds − reserve_seconds`, or of `steps`, whichever limit
    is nearer at that moment. Rates are those of the plateau between warm-up and warm-down.

    The defaults were chosen for about a million weights and two minutes on two CPU cores (docs/log.md).

    >>> Recipe(grad_clip=-1)
    Traceback (most recent call last):
    squeeze.errors.BadConfig: grad_clip; expected a finite number in 0..1e+30, found -1
    """

    # limits: at least one must be above zero when the run begins
    budget_seconds: float = number(
        0, HUGE, 0.0
    )  # wallclock of everything up to the export; 0: no limit
    reserve_seconds: float = number(
        0, HUGE, 0.0
    )  # of the budget, kept for averaging, packing and export
    steps: int = number(0, HUGE, 0)  # 0: no limit

    # batches
    batch_tokens: int = number(1, BATCH, 1024)  # a step, all ranks together
    micro_tokens: int = number(
        0, BATCH, 0
    )  # a forward of one rank, at most; 0: its whole share at once
    precision: str = choice(
        "auto", PRECISIONS
    )  # of the forward; auto: native on a GPU, fp32 on a CPU; native: bf16 where has_bf16, else fp32

    packed_rows: int = number(
        0, BATCH, 0
    )  # rows a batch is, each of documents end to end (#1855); 0: rows are windows

    # weights
    matrix_start: str = choice("orthogonal", STARTS)  # uniform: ±1/√inputs, nn.Linear's (baseline)
    table_precision: str = choice("fp32", DTYPES)  # of embeddings and their state in AdamW
    exchange: str = choice("fp32", DTYPES)  # of matrices' gradients and directions between ranks

    # Muon: the blocks' matrices
    matrix_lr: float = number(0, HUGE, 0.04)
    matrix_decay: float = number(0, HUGE, 0.0)  # decoupled, times the rate
    momentum: float = number(0, BELOW_ONE, 0.95)
    momentum_start: float = number(
        0, BELOW_ONE, 0.0
    )  # momentum of the first step; 0: as `momentum`
    momentum_warmup: int = number(0, HUGE, 0)  # steps from momentum_start to momentum
    orthogonalizer: str = choice("newton-schulz", ORTHOGONALIZERS)
    orthogonalizer_steps: int = number(1, 10, 5)
    row_normalize: bool = False  # rows to equal length before orthogonalizing (#1394)

    # AdamW: all the rest
    table_lr: float = number(0, HUGE, 0.05)  # embeddings
    head_lr: float = number(0, HUGE, 0.0)  # untied head; 0: as table_lr
    small_lr: float = number(0, HUGE, 0.005)  # gains, scales, mixes, gates
    table_decay: float = number(0, HUGE, 0.0)  # of embeddings and head
    small_decay: float = number(0, HUGE, 0.0)
    beta1: float = number(0, BELOW_ONE, 0.9)
    beta2: float = number(0, BELOW_ONE, 0.95)
    epsilon: float = number(TINY, 1, 1e-8)

    # schedule
    warmup: float = number(0, 1, 0.02)  # fraction over which the rates rise
    warmdown: float = number(0, 1, 0.6)  # last fraction, over which they fall
    final_rate: float = number(0, 1, 0.0)  # factor below which they do not fall
    grad_clip: float = number(0, HUGE, 1.0)  # largest norm of all gradients together; 0: none
    clip_locally: bool = False  # each rank's own gradients, before they are summed (#1204, #1855)
    recurrence_start: float = number(0, 1, 0.0)  # fraction from which repeated layers repeat
    recurrence_step: int = number(
        0, HUGE, 0
    )  # step from which they do; the later of the two counts

    # averaging of weights: what is exported
    average: str = choice("none", AVERAGES)
    average_start: float = number(0, 1, 0.0)  # fraction from which weights are averaged
    ema_decay: float = number(0, 1, 0.997)  # a step
    swa_every: int = number(1, HUGE, 50)  # steps between the weights that are averaged

    # quantization-aware training: straight-through rounding to the grid of `squeeze pack --quant`
    qat_start: float = number(0, 1, 1.0)  # fraction from which it is on; 1: never
    qat_bits: int = number(2, 16, 6)  # blocks' matrices
    qat_k: float = number(0, 1000, 12.85)  # clip in standard deviations of a row; 0: its maximum
    qat_table_bits: int = number(2, 16, 8)  # embeddings and head
    qat_table_k: float = number(0, 1000, 20.0)
    qat_rate: float = number(
        0, HUGE, 0.0
    )  # nats of loss for one bit per weight of ideal code length

    def __post_init__(self) -> None:
        if VALIDATING:
            _check_(self)

    def rate(self, progress: float) -> float:
        """Return the factor on every learning rate at `progress` (0…1) of the run."""
        rise = (progress + 1e-3) / self.warmup if self.warmup else 1.0
        fall = (1.0 - progress) / self.warmdown if self.warmdown else 1.0
        return max(0.0, min(1.0, rise, max(fall, self.final_rate)))

    def momentum_at(self, step: int) -> float:
        """Return Muon's momentum in step 0, 1, …, linear over the first momentum_warmup steps."""
        if not self.momentum_start or step >= self.momentum_warmup:
            return self.momentum
        done = step / self.momentum_warmup
        return self.momentum_start + (self.momentum - self.momentum_start) * done

    def recurrent_at(self, progress: float, step: int) -> bool:
        """Return whether repeated layers repeat in step 0, 1, …, which begins at `progress`."""
        return progress >= self.recurrence_start and step >= self.recurrence_step

    def quantized_at(self, progress: float) -> bool:
        """Return whether the forward reads weights rounded to the packer's grid."""
        return self.qat_start < 1.0 and progress >= self.qat_start

    def to_json(self) -> str:
        """Return canonical JSON: sorted keys, no spaces, every field, so that a record stays true."""
        return json.dumps(dataclasses.asdict(self), sort_keys=True, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str | bytes) -> Recipe:
        """Return the recipe in JSON; fields left out take their default. Raises BadConfig."""
        return cls.from_fields(read_object("recipe", text))

    @classmethod
    def from_fields(cls, fields: dict[str, Any]) -> Recipe:
        """Return the recipe of plain values; raises BadConfig naming fields that do not exist."""
        refuse_unknown("recipe", fields, [field.name for field in dataclasses.fields(cls)])
        return cls(**fields)


def _check_(recipe: Recipe) -> None:
    """Check every field and store numbers as the type of their field."""
    for field in dataclasses.fields(recipe):
        value = getattr(recipe, field.name)
        check(field, value)
        if kind_of(field) is float:  # 600 and 600.0 are one recipe
            object.__setattr__(recipe, field.name, float(value))
    if recipe.reserve_seconds and recipe.reserve_seconds >= recipe.budget_seconds:
        raise BadConfig(
            "reserve_seconds leaves nothing to train in",
            expected=f"below budget_seconds = {recipe.budget_seconds:g}",
            found=f"{recipe.reserve_seconds:g}",
        )
