"""Size against cost of a packed model at other scales, foreseen from the curves of its plan.

Every point is the same water-filled allocation at another scale, so no other allocation of as many bytes
is expected to cost less. Nothing is quantized: bits and losses are those of
`squeeze.calib.allocation.sensitivity`, costs those of `squeeze.views.foreseen`.
"""

from __future__ import annotations

import importlib.util
import io
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from squeeze.calib.allocation.octaves import OCTAVES
from squeeze.errors import BadConfig, MissingPackage
from squeeze.files import write_atomic
from squeeze.packing.plan import Plan, TensorPlan
from squeeze.views.foreseen import Costs

HALVES = tuple(octave / 2 for octave in range(8, -9, -1))  # octaves of the scale, coarse first


@dataclass(frozen=True)
class Point:
    """A file that the model could be.

    octaves: of its scale above the packed one; 0: as packed
    bits: a weight, of the whole file
    cost: foreseen, in the plan's unit; at 0 octaves the measured one
    fitting: weights of a model of this kind that the limit holds at these bits
    """

    octaves: float
    size: int
    bits: float
    cost: float
    fitting: int


def frontier(plan: Plan) -> tuple[Point, ...]:
    """Return the points of a plan at HALVES, the smallest first."""
    weights = max(sum(tensor.weights for tensor in plan.tensors), 1)
    costs = Costs(plan)
    points = []
    for octaves in HALVES:
        size, cost = float(plan.size), 0.0
        for tensor in plan.tensors:
            bits, loss = _at(tensor, octaves) if tensor.curve else (tensor.bits, tensor.loss)
            size += tensor.weights * (bits - tensor.bits) / 8
            cost += costs.of(tensor, loss, bits)
        bits = 8 * size / weights
        points.append(
            Point(octaves, round(size), bits, plan.in_bits(cost), int(8 * plan.limit / bits))
        )
    return tuple(points)


def _at(tensor: TensorPlan, octaves: float) -> tuple[float, float]:
    """Return bits a weight and expected nats per token of a tensor at a scale."""
    pairs = zip(OCTAVES, tensor.curve, strict=True)
    for (coarse, (low, more)), (fine, (high, less)) in pairwise(pairs):
        if octaves >= fine:
            share = (coarse - octaves) / (coarse - fine)
            logs = math.log(max(more, 1e-30)), math.log(max(less, 1e-30))
            return low + share * (high - low), math.exp(logs[0] + share * (logs[1] - logs[0]))
    return tensor.curve[-1]


def as_json(points: Sequence[Point]) -> list[dict[str, Any]]:
    """Return points as plain dictionaries for `--json`."""
    return [asdict(point) for point in points]


def lines(points: Sequence[Point], plan: Plan) -> list[str]:
    """Return points as a table, the packed one marked."""
    rows = [
        f"{'bytes':>14}{'bits/weight':>13}{'Δ ' + plan.unit:>15}{f'weights in {plan.limit:,}':>26}"
    ]
    for point in points:
        mark = "  as packed" if point.octaves == 0 else ""
        rows.append(
            f"{point.size:>14,}{point.bits:>13.3f}{point.cost:>15.6f}{point.fitting:>26,}{mark}"
        )
    return rows


def check_drawable(path: Path) -> None:
    """Raise MissingPackage where no picture can be drawn, BadConfig for a path of another format."""
    if importlib.util.find_spec("matplotlib") is None:
        raise MissingPackage("a picture of the frontier needs matplotlib", "plot")
    if path.suffix.lower() not in ("", ".png"):
        raise BadConfig("picture of the frontier", expected="NAME.png", found=path.name)


def draw(points: Sequence[Point], plan: Plan, path: Path) -> None:
    """Write a picture (PNG) of cost over size."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.add_subplot()
    axes.plot([p.size for p in points], [p.cost for p in points], color="#1f4e8c", label="foreseen")
    cost = plan.in_bits(plan.measured)
    axes.plot([plan.size], [cost], "o", color="#c2762d", label="as packed, measured")
    axes.axvline(plan.limit, color="#888888", linewidth=0.8, linestyle="--", label="limit")
    axes.set(xlabel="bytes", ylabel=f"cost ({plan.unit})", xscale="log", yscale="log")
    axes.grid(alpha=0.3, which="both")
    axes.legend()
    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=120)
    write_atomic(path, picture.getvalue())
