"""Rows of a ledger as a tree: component, role, layer, stream; each node sums what is below it."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from squeeze.ledger.table import Ledger
from squeeze.packing.plan import Plan, TensorPlan
from squeeze.rows import Row

ESTIMATED = 0.1


@dataclass(frozen=True)
class Node:
    """Bytes below a name. weights: stored there, with `weight_bytes` of them and their streams.

    floor: order-0 entropy of the symbols in bytes, None where it was not computed. loss: expected nats
    per token that rounding costs; price: bytes that a thousandth of a bit per byte would save
    (see `squeeze.views.tree.price`); None where no plan tells. estimated: whether more than ESTIMATED
    of the bytes are shares of streams that others share, so that only their sums are measured.
    """

    name: str
    bytes: int
    weights: int = 0
    weight_bytes: int = 0
    floor: float | None = None
    loss: float | None = None
    price: float | None = None
    children: tuple[Node, ...] = ()
    estimated: bool = False

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
    """Return the whole ledger as one node.

    sort: "bytes", the largest first, or "file", in the order of the files.
    """
    return _Builder(ledger, floors, plan, sort).node("total", list(ledger.rows), 0)


class _Builder:
    """Makes nodes of rows, with the floors and the plan that the figures are from."""

    def __init__(self, ledger: Ledger, floors: Floors | None, plan: Plan | None, sort: str) -> None:
        self.floors, self.plan, self.sort = floors, plan, sort
        # a file that is compressed as a whole is one stream; others have a stream for each kind
        self.mixed = {row.file for row in ledger.rows if not row.shared}
        self.sharers = Counter(map(self._stream, ledger.rows))
        self.tensors = {} if plan is None else {tensor.name: tensor for tensor in plan.tensors}

    def node(self, name: str, rows: list[Row], level: int) -> Node:
        """Return the node of rows, its children by the first level that tells them apart."""
        children: list[Node] = []
        for depth in range(level, len(KEYS)):
            groups: dict[str, list[Row]] = {}
            for row in rows:
                groups.setdefault(KEYS[depth](row), []).append(row)
            if len(groups) > 1 or (len(groups) == 1 and next(iter(groups)) and depth < 2):
                children = [
                    self.node(key or "outside layers", group, depth + 1)
                    for key, group in groups.items()
                ]
                break
        if self.sort == "bytes":
            children.sort(key=lambda child: -child.bytes)
        return self._summed(name, rows, tuple(children))

    def _summed(self, name: str, rows: list[Row], children: tuple[Node, ...]) -> Node:
        stored = [row for row in rows if row.component == "weights"]
        weights = sum(row.elements for row in stored if row.kind == "codes" or "raw." in row.kind)
        names = dict.fromkeys(row.tensor for row in stored)
        planned = [self.tensors[name] for name in names if name in self.tensors]
        return Node(
            name=name,
            bytes=sum(row.bytes for row in rows),
            weights=weights,
            weight_bytes=sum(row.bytes for row in stored),
            floor=self._floor(rows),
            loss=sum(tensor.loss for tensor in planned) if planned else None,
            price=price(planned, self.plan) if self.plan is not None and weights else None,
            children=children,
            estimated=self._is_estimated(rows),
        )

    def _is_estimated(self, rows: list[Row]) -> bool:
        """Return whether the bytes of rows are shares; those of all sharers together are measured."""
        inside = Counter(map(self._stream, rows))
        shares = (
            row.bytes
            for row in rows
            if row.shared and inside[self._stream(row)] < self.sharers[self._stream(row)]
        )
        return sum(shares) > ESTIMATED * sum(row.bytes for row in rows)

    def _stream(self, row: Row) -> tuple[str, str]:
        """Return what tells the stream of a shared row from others."""
        return row.file, row.kind if row.file in self.mixed else ""

    def _floor(self, rows: list[Row]) -> float | None:
        """Return the sum of the rows' floors, None unless every row has one."""
        if not self.floors:
            return None
        floors = [self.floors.get((row.file, row.tensor, row.kind)) for row in rows]
        return None if None in floors else sum(floor for floor in floors if floor is not None)


def _role(row: Row) -> str:
    if row.component == "weights" or row.role:
        return row.role
    return row.file if row.kind == "file" else row.kind


# Levels of the tree: what rows of one node have in common.
KEYS: tuple[Callable[[Row], str], ...] = (
    lambda row: row.component,
    _role,
    lambda row: "" if row.layer is None else f"layer {row.layer}",
    lambda row: row.kind if row.component == "weights" else row.tensor,
)


def price(tensors: list[TensorPlan], plan: Plan) -> float | None:
    """Return the bytes to save, over these tensors by their weights, until the score falls by 0.001.

    In bits per byte (per token when the plan does not know the bytes of a token), at the slope of the
    tensors' curves where they stand: an allocation is right when this is the same everywhere.
    """
    slopes = [(t.weights, slope) for t in tensors if (slope := slope_at(t)) is not None]
    if not slopes:
        return None
    mean = sum(weights * slope for weights, slope in slopes) / sum(weights for weights, _ in slopes)
    return 0.001 / plan.in_bits(mean)


def slope_at(tensor: TensorPlan) -> float | None:
    """Return the nats per token that one byte less of this tensor costs; None where no curve tells."""
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
