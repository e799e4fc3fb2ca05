"""How to train: every hyperparameter of a run in one frozen, validated record. No torch here.

What shapes the model is in `ModelConfig` (its `seq_len` is also the training window); what only says
where and how to run (device, folders, compilation, seed) is an argument of `squeeze.train.loop.train`.
"""

from __future__ import annotations

import dataclasses
import json
import math
from dataclasses import dataclass
from typing import Any, TypeVar

from squeeze.errors import BadConfig

Number = TypeVar("Number", int, float)
INFINITE = 1e30  # upper bound of what has no natural one

ORTHOGONALIZERS = ("newton-schulz", "polar-express")
AVERAGES = ("none", "ema", "swa")
PRECISIONS = ("auto", "fp32", "bf16")


def _number(default: Number, low: float, high: float = INFINITE) -> Number:
    return dataclasses.field(default=default, metadata={"low": low, "high": high})


def _choice(default: str, options: tuple[str, ...]) -> str:
    return dataclasses.field(default=default, metadata={"options": options})


@dataclass(frozen=True)
class Recipe:
    """All hyperparameters of a training run; raises BadConfig for a value out of range.

    "Fraction" means of the run: of `budget_seconds − reserve_seconds`, or of `steps`, whichever limit
    is nearer at that moment. Rates are those of the plateau between warm-up and warm-down.

    The defaults were chosen for about a million weights and two minutes on two CPU cores (docs/log.md).

    >>> Recipe(grad_clip=-1)
    Traceback (most recent call last):
    squeeze.errors.BadConfig: grad_clip; expected a number in 0…1e+30, found -1
    """

    # limits: at least one must be above zero when the run begins
    budget_seconds: float = _number(0.0, 0)  # wallclock of everything up to the export; 0: no limit
    reserve_seconds: float = _number(
        0.0, 0
    )  # of the budget, kept for averaging, packing and export
    steps: int = _number(0, 0)  # 0: no limit

    # batches
    batch_tokens: int = _number(1024, 1)  # a step, all ranks together
    micro_tokens: int = _number(0, 0)  # a forward of one rank, at most; 0: its whole share at once
    precision: str = _choice(
        "auto", PRECISIONS
    )  # of the forward; auto: bf16 on a GPU, fp32 on a CPU

    # Muon: the blocks' matrices
    matrix_lr: float = _number(0.04, 0)
    matrix_decay: float = _number(0.0, 0)  # decoupled, times the rate
    momentum: float = _number(0.95, 0, 1)
    momentum_start: float = _number(0.0, 0, 1)  # momentum of the first step; 0: as `momentum`
    momentum_warmup: int = _number(0, 0)  # steps from momentum_start to momentum
    orthogonalizer: str = _choice("newton-schulz", ORTHOGONALIZERS)
    orthogonalizer_steps: int = _number(5, 1, 10)
    row_normalize: bool = False  # rows to equal length before orthogonalizing (#1394)

    # AdamW: all the rest
    table_lr: float = _number(0.05, 0)  # embeddings
    head_lr: float = _number(0.0, 0)  # untied head; 0: as table_lr
    small_lr: float = _number(0.005, 0)  # gains, scales, mixes, gates
    table_decay: float = _number(0.0, 0)  # of embeddings and head
    small_decay: float = _number(0.0, 0)
    beta1: float = _number(0.9, 0, 1)
    beta2: float = _number(0.95, 0, 1)
    epsilon: float = _number(1e-8, 0, 1)

    # schedule
    warmup: float = _number(0.02, 0, 1)  # fraction over which the rates rise
    warmdown: float = _number(0.6, 0, 1)  # last fraction, over which they fall
    final_rate: float = _number(0.0, 0, 1)  # what they fall to, as a factor
    grad_clip: float = _number(1.0, 0)  # largest norm of all gradients together; 0: none
    recurrence_start: float = _number(0.0, 0, 1)  # fraction from which repeated layers repeat
    recurrence_step: int = _number(0, 0)  # step from which they do; the later of the two counts

    # averaging of weights: what is exported
    average: str = _choice("none", AVERAGES)
    average_start: float = _number(0.0, 0, 1)  # fraction from which weights are averaged
    ema_decay: float = _number(0.997, 0, 1)  # a step
    swa_every: int = _number(50, 1)  # steps between the weights that are averaged

    # quantization-aware training: straight-through rounding to the grid of `squeeze pack --quant`
    qat_start: float = _number(1.0, 0, 1)  # fraction from which it is on; 1: never
    qat_bits: int = _number(6, 2, 16)  # blocks' matrices
    qat_k: float = _number(12.85, 0, 1000)  # clip in standard deviations of a row; 0: its maximum
    qat_table_bits: int = _number(8, 2, 16)  # embeddings and head
    qat_table_k: float = _number(20.0, 0, 1000)
    qat_rate: float = _number(0.0, 0)  # nats of loss for one bit per weight of ideal code length

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            object.__setattr__(self, field.name, _checked(field, getattr(self, field.name)))
        if self.reserve_seconds and self.reserve_seconds >= self.budget_seconds:
            raise BadConfig(
                "reserve_seconds leaves nothing to train in",
                expected=f"below budget_seconds = {self.budget_seconds:g}",
                found=f"{self.reserve_seconds:g}",
            )

    def rate(self, progress: float) -> float:
        """Factor on every learning rate when `progress` (0…1) of the run is done."""
        rise = (progress + 1e-3) / self.warmup if self.warmup else 1.0
        fall = (1.0 - progress) / self.warmdown if self.warmdown else 1.0
        fall = self.final_rate + (1.0 - self.final_rate) * min(1.0, max(0.0, fall))
        return max(0.0, min(1.0, rise, fall))

    def momentum_at(self, step: int) -> float:
        """Muon's momentum in step 0, 1, …: linear from momentum_start over momentum_warmup steps."""
        if not self.momentum_start or step >= self.momentum_warmup:
            return self.momentum
        done = step / self.momentum_warmup
        return self.momentum_start + (self.momentum - self.momentum_start) * done

    def recurrent_at(self, progress: float, step: int) -> bool:
        """Whether repeated layers repeat in step 0, 1, … that begins with `progress` done."""
        return progress >= self.recurrence_start and step >= self.recurrence_step

    def quantized_at(self, progress: float) -> bool:
        """Whether the forward sees weights rounded to the packer's grid."""
        return self.qat_start < 1.0 and progress >= self.qat_start

    def to_json(self) -> str:
        """Canonical JSON: sorted keys, no spaces, every field, so that a run's record stays true."""
        return json.dumps(dataclasses.asdict(self), sort_keys=True, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str | bytes) -> Recipe:
        """Inverse of `to_json`; fields left out take their default. Raises BadConfig."""
        try:
            fields = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise BadConfig("recipe is not JSON", found=str(error)[:80]) from None
        if not isinstance(fields, dict):
            raise BadConfig("recipe", expected="a JSON object", found=type(fields).__name__)
        return cls.from_fields(fields)

    @classmethod
    def from_fields(cls, fields: dict[str, Any]) -> Recipe:
        """Build from plain values. Raises BadConfig naming fields that do not exist."""
        known = {field.name for field in dataclasses.fields(cls)}
        unknown = sorted(set(fields) - known)
        if unknown:
            raise BadConfig(
                "recipe has fields this version does not know",
                expected=", ".join(sorted(known)),
                found=", ".join(unknown)[:200],
            )
        return cls(**fields)


def _checked(field: dataclasses.Field[Any], value: Any) -> int | float | bool | str:
    """The value in its field's own type, so that 600 and 600.0 are one configuration."""
    kind: Any = type(field.default)
    if kind is bool:
        if isinstance(value, bool):
            return value
        raise BadConfig(field.name, expected="true or false", found=repr(value)[:80])
    if kind is str:
        if value in field.metadata["options"]:
            return str(value)
        options = ", ".join(field.metadata["options"])
        raise BadConfig(field.name, expected=f"one of {options}", found=repr(value)[:80])
    low, high = field.metadata["low"], field.metadata["high"]
    number = isinstance(value, int if kind is int else (int, float)) and not isinstance(value, bool)
    if not (number and math.isfinite(value) and low <= value <= high):
        what = "an integer" if kind is int else "a number"
        raise BadConfig(field.name, expected=f"{what} in {low:g}…{high:g}", found=repr(value)[:80])
    return kind(value)
