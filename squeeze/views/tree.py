"""Rows of a ledger as a tree: component, role, layer, stream; each node sums what is below it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from squeeze.ledger.table import Ledger
from squeeze.packing.plan import Plan, TensorPlan
from squeeze.rows import Row

SORTS = ("bytes", "file")
LEVELS = ("component", "role", "layer", "stream")


@dataclass(frozen=True)
class Node:
    """Bytes below a name. weights: stored there, with `weight_bytes` of them and their streams.

    floor: order-0 entropy of the symbols in bytes, None where it was not computed. loss: expected nats
    per token that rounding costs; price: bytes that a thousandth of a bit per byte would save
    (see `squeeze.views.tree.price`); None where no plan tells.
    """

    name: str
    bytes: int
    weights: int = 0
    weight_bytes: int = 0
    floor: float | None = None
    loss: float | None = None
    price: float | None = None
    children: tuple[Node, ...] = ()

    @property
    def bits(self) -> float | None:
        """Bits a weight, side information included."""
        return 8 * self.weight_bytes / self.weights if self.weights else None

    @property
    def waste(self) -> float | None:
        """Bytes above the floor; below zero where contexts beat order-0 entropy."""
        return None if self.floor is None else self.bytes - self.floor


Floors = Mapping[tuple[str, str, str], float]  # (file, tensor, stream) -> bytes


def tree(
    ledger: Ledger, *, floors: Floors | None = None, plan: Plan | None = None, sort: str = "bytes"
) -> Node:
    """The whole ledger as one node. sort: largest first, or in the order of the files."""
    plans = {tensor.name: tensor for tensor in plan.tensors} if plan is not None else {}
    keys: list[Callable[[Row], str]] = [
        lambda row: row.component,
        lambda row: _role(row),
        lambda row: "" if row.layer is None else f"layer {row.layer}",
        lambda row: row.kind if row.component == "weights" else row.tensor,
    ]

    def node(name: str, rows: list[Row], level: int) -> Node:
        children: tuple[Node, ...] = ()
        for depth in range(level, len(keys)):
            groups: dict[str, list[Row]] = {}
            for row in rows:
                groups.setdefault(keys[depth](row), []).append(row)
            if len(groups) > 1 or (len(groups) == 1 and next(iter(groups)) and depth < 2):
                children = tuple(
                    node(key or "outside layers", g, depth + 1) for key, g in groups.items()
                )
                break
        if sort == "bytes":
            children = tuple(sorted(children, key=lambda child: -child.bytes))
        return _summed(name, rows, children, floors, plans, plan)

    return node("total", list(ledger.rows), 0)


def _role(row: Row) -> str:
    if row.component == "weights" or row.role:
        return row.role
    return row.file if row.kind == "file" else row.kind


def _summed(
    name: str,
    rows: list[Row],
    children: tuple[Node, ...],
    floors: Floors | None,
    plans: Mapping[str, TensorPlan],
    plan: Plan | None,
) -> Node:
    stored = [row for row in rows if row.component == "weights"]
    weights = sum(row.elements for row in stored if row.kind == "codes" or "raw." in row.kind)
    known = [floors.get((row.file, row.tensor, row.kind)) for row in rows] if floors else [None]
    told = [plans[t] for t in dict.fromkeys(row.tensor for row in stored) if t in plans]
    return Node(
        name,
        sum(row.bytes for row in rows),
        weights,
        sum(row.bytes for row in stored),
        sum(f for f in known if f is not None) if None not in known else None,
        sum(tensor.loss for tensor in told) if told else None,
        price(told, plan) if plan is not None and weights else None,
        children,
    )


def price(tensors: list[TensorPlan], plan: Plan) -> float | None:
    """Bytes to save, spread over these tensors by their weights, until the score falls by 0.001.

    In bits per byte (per token when the plan does not know the bytes of a token), at the slope of the
    tensors' curves where they stand: an allocation is right when this is the same everywhere.
    """
    known = [(t.weights, slope) for t in tensors if (slope := slope_at(t)) is not None]
    if not known:
        return None
    mean = sum(weights * slope for weights, slope in known) / sum(weights for weights, _ in known)
    return 0.001 / plan.in_bits(mean)


def slope_at(tensor: TensorPlan) -> float | None:
    """Nats per token that one byte less of this tensor costs; None where no curve tells."""
    points = [(bits, loss) for bits, loss in tensor.curve if loss > 0]
    if len(points) < 2:
        return None
    nearest = min(
        range(len(points) - 1), key=lambda i: abs(points[i][0] + points[i + 1][0] - 2 * tensor.bits)
    )
    (low, more), (high, less) = points[nearest], points[nearest + 1]
    if high <= low or less >= more:
        return None
    here = math.exp(
        math.log(more) + (math.log(less) - math.log(more)) * (tensor.bits - low) / (high - low)
    )
    per_bit = here * math.log(more / less) / (high - low)
    return per_bit * 8 / max(tensor.weights, 1)
