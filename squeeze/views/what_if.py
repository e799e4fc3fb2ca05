"""Bytes and score under other bits, foreseen from the curves of a plan: nothing is quantized.

Losses of tensors are quadratic estimates, and add up; `squeeze.views.foreseen` has their real costs.
"""

from __future__ import annotations

import fnmatch
import math
import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

from squeeze.calib.allocation.octaves import OCTAVES
from squeeze.errors import BadConfig
from squeeze.packing.plan import Plan, TensorPlan
from squeeze.views.foreseen import Costs

CLIP = 12.85  # σ of a row at the largest integer code, as record-1394 clips
UNITS = re.compile(
    r"int(?P<int>\d+)|[x×](?P<times>\d+(?:\.\d+)?)|(?P<bits>\d+(?:\.\d+)?)\s*(?:bits?|b)?"
)


@dataclass(frozen=True)
class Bits:
    """Bits a weight that are wanted, or by what those that a tensor has are multiplied."""

    number: float
    times: bool = False

    def of(self, tensor: TensorPlan) -> float:
        """Return the bits a weight for a tensor."""
        return self.number * tensor.bits if self.times else self.number


@dataclass(frozen=True)
class Foreseen:
    """A tensor under other bits: bits a weight, bytes, expected nats per token; before and after.

    scale: of the quantization that has these bits (see `squeeze.packing.quantizer`).
    """

    name: str
    bits: tuple[float, float]
    bytes: tuple[int, int]
    loss: tuple[float, float]
    scale: float


@dataclass(frozen=True)
class WhatIf:
    """The whole file under other bits."""

    plan: Plan
    tensors: tuple[Foreseen, ...]

    @property
    def size(self) -> int:
        """Bytes of the file foreseen."""
        return self.plan.size + sum(t.bytes[1] - t.bytes[0] for t in self.tensors)

    @property
    def cost(self) -> tuple[float, float]:
        """Cost before and after, in the plan's unit (bits per byte where it knows bytes)."""
        change = sum(t.loss[1] - t.loss[0] for t in self.tensors)
        before = self.plan.measured
        return self.plan.in_bits(before), self.plan.in_bits(max(before + change, 0.0))

    def as_json(self) -> dict[str, Any]:
        """Return a plain dictionary for `--json`."""
        before, after = self.cost
        return {
            "size": self.plan.size,
            "foreseen_size": self.size,
            "unit": self.plan.unit,
            "expected_cost": before,
            "foreseen_cost": after,
            "delta_cost": after - before,
            "measured_tokens": self.plan.measured_tokens,
            "cautions": list(self.plan.cost.cautions),
            "tensors": [asdict(tensor) for tensor in self.tensors],
        }


def parse(text: str) -> dict[str, Bits]:
    """Read `mlp.fc=3.0bit,tok_emb=int7,attn=x0.8`: bits by role, tensor or pattern. Raises BadConfig."""
    wanted: dict[str, Bits] = {}
    for part in text.split(","):
        name, equals, value = part.strip().partition("=")
        match = UNITS.fullmatch(value.strip())
        if not (name and equals and match):
            raise BadConfig("what-if", expected="such as mlp.fc=3.0bit,tok_emb=int7", found=part)
        number = float(match["bits"] or match["times"] or integer_bits(int(match["int"] or 0)))
        if not 0 <= number <= 32:
            raise BadConfig("what-if bits", expected="0…32, or int2…int16", found=value)
        wanted[name] = Bits(number, match["times"] is not None)
    return wanted


def integer_bits(width: int) -> float:
    """Return the entropy in bits of Gaussian weights as integers of `width` bits.

    They are clipped at CLIP σ. An absurd width has -1.

    >>> round(integer_bits(6), 2)
    3.32
    """
    if not 2 <= width <= 16:
        return -1.0
    step = CLIP / (2 ** (width - 1) - 1)
    edges = [step * (code + 0.5) for code in range(-1, math.ceil(9 / step))]
    tails = [math.erf(edge / math.sqrt(2)) / 2 for edge in edges]
    shares = [high - low for low, high in pairwise(tails)]
    return -sum((1 if i == 0 else 2) * p * math.log2(p) for i, p in enumerate(shares) if p > 0)


def foresee(plan: Plan, wanted: dict[str, Bits]) -> WhatIf:
    """Return the file and its score under other bits, by role, tensor or pattern.

    Raises BadConfig for a name that no tensor with a curve has.
    """
    chosen: dict[str, tuple[TensorPlan, float]] = {}
    for name, bits in wanted.items():
        meant = [t for t in plan.tensors if _means(name, t)]
        if not meant:
            roles = sorted({t.role for t in plan.tensors if t.curve})
            raise BadConfig("what-if names no tensor", expected=", ".join(roles), found=name)
        curved = [t for t in meant if t.curve]
        if not curved:
            raise BadConfig(
                f"nothing is known of other bits for {name}", found=f"{len(meant)} tensors"
            )
        chosen |= {tensor.name: (tensor, bits.of(tensor)) for tensor in curved}
    costs = Costs(plan)
    return WhatIf(
        plan,
        tuple(
            Foreseen(
                name=name,
                bits=(tensor.bits, bits),
                bytes=(
                    tensor.bytes,
                    tensor.bytes + round(tensor.weights * (bits - tensor.bits) / 8),
                ),
                loss=(
                    costs.of(tensor, tensor.loss, tensor.bits),
                    costs.of(tensor, loss_at(tensor.curve, bits), bits),
                ),
                scale=scale_at(tensor, bits),
            )
            for name, (tensor, bits) in chosen.items()
        ),
    )


def _means(name: str, tensor: TensorPlan) -> bool:
    return (
        name in (tensor.name, tensor.role, tensor.role.partition(".")[0])
        or tensor.name.startswith(f"{name}.")
        or fnmatch.fnmatchcase(tensor.name, name)
    )


def scale_at(tensor: TensorPlan, bits: float) -> float:
    """Return the scale at which a tensor has these bits a weight, within its curve."""
    points = list(zip((bits for bits, _ in tensor.curve), OCTAVES, strict=False))
    octaves = points[0][1] if bits <= points[0][0] else points[-1][1]
    for (low, coarse), (high, fine) in pairwise(points):
        if low < bits <= high:
            octaves = coarse + (fine - coarse) * (bits - low) / (high - low)
    return (tensor.scale or 0.0) * 2.0**octaves


def loss_at(curve: Iterable[tuple[float, float]], bits: float) -> float:
    """Return the expected nats per token at bits a weight.

    Between points the logarithm is linear in bits. Above the last point a bit more quarters the loss;
    below the first it stays as it is there.
    """
    points = sorted((b, max(loss, 1e-30)) for b, loss in curve)
    if bits <= points[0][0]:
        return points[0][1]
    for (low, more), (high, less) in pairwise(points):
        if bits <= high:
            share = (bits - low) / (high - low) if high > low else 1.0
            return math.exp(math.log(more) * (1 - share) + math.log(less) * share)
    return points[-1][1] * 4.0 ** (points[-1][0] - bits)
