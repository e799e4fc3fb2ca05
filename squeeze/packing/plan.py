"""The plan of a pack: bits, bytes and expected cost of every tensor, and what other bits would cost.

Kept as `plan.json` in the cache beside the artifact (docs/plan.md), from which a pack of the same
settings resumes without a search.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from squeeze.artifact.container import parse
from squeeze.errors import SqueezeError
from squeeze.files import read_json, write_atomic
from squeeze.ledger.attribute import artifact_rows
from squeeze.packing.machine import Machine
from squeeze.packing.measured import Cost
from squeeze.packing.tune.gain import Gain
from squeeze.tensors.roles import role_of

VERSION = 1
Curve = tuple[tuple[float, float], ...]  # (bits a weight, nats per token)
_EMPTY: Mapping[str, Any] = {}


@dataclass(frozen=True)
class TensorPlan:
    """Storage of one tensor, and its price.

    kind: raw, uniform or trellis
    bytes: of all its streams, shared ones in proportion
    bits: of those bytes, per weight
    role: as in `RoleCost`
    scale: the loss that a step may cost; None for a tensor that is not quantized
    loss: expected nats per token that its rounding adds
    curve: pairs of bits a weight and expected nats per token; empty where unknown
    """

    name: str
    kind: str
    weights: int
    bytes: int
    bits: float
    scale: float | None = None
    loss: float = 0.0
    curve: Curve = ()
    role: str = "other"


@dataclass(frozen=True)
class RoleCost:
    """Cost of a role's tensors beside what the quadratic model expects, in nats per token.

    A tensor that the model expects to lose L at b bits a weight costs L·(factor + growth·4^−b): the
    relative error of its weights is about 4^−b, and what is not quadratic grows with it.

    points: pairs (expected, measured KL) of this role alone, in the packed and in other steps
    """

    role: str
    factor: float
    growth: float
    points: Curve

    def real(self, loss: float, bits: float) -> float:
        """Return the cost of a tensor with this expected loss and bits a weight."""
        return loss * (self.factor + self.growth * 4.0**-bits)


@dataclass(frozen=True)
class Plan:
    """Description of a packed file: the price of every tensor and the cost of all.

    key: hash of everything that the file depends on
    sha256, size: of the file, size in bytes
    limit: bytes that the artifact may have
    trials: whole quantizations of the search
    expected, measured: nats per token, by the quadratic model and as mean KL on calibration text
    bytes_per_token: of that text; None where no tokenizer was given
    tensors: storage and price of each, in the order of the file
    roles: measured cost of each role beside that of the quadratic model, in packed and in coarser steps
    finer_roles: the same in packed and in finer steps, of a file with few bits a weight; by it goes what
        more bits would cost
    machine: kind of machine that packed
    coverage: where the importance of every weight is from (`squeeze.calib.taps.coverage`), as JSON
    tuning: work of a tuned file, and what it bought; None where nothing learnt
    measured_tokens: of the text that `measured` is the mean of; 0: not known
    measured_error: standard error of that mean
    features: dimensions of the hidden states whose error the cost is; 0: it is of next tokens
    """

    key: str
    sha256: str
    size: int
    limit: int
    trials: int
    expected: float
    measured: float
    bytes_per_token: float | None
    tensors: tuple[TensorPlan, ...]
    roles: tuple[RoleCost, ...] = ()
    finer_roles: tuple[RoleCost, ...] = ()
    machine: Machine = field(default_factory=Machine)
    coverage: Mapping[str, Any] = field(default_factory=dict)
    tuning: Gain | None = None
    measured_tokens: int = 0
    measured_error: float = 0.0
    features: int = 0

    @property
    def unused(self) -> int:
        """Bytes under the limit."""
        return self.limit - self.size

    @property
    def scales(self) -> dict[str, float]:
        """Scale of every matrix that was quantized, by name."""
        return {t.name: t.scale for t in self.tensors if t.scale is not None}

    @property
    def cost(self) -> Cost:
        """Cost of packing, expected and measured."""
        return Cost(
            self.expected, self.measured, self.measured_tokens, self.measured_error, self.features
        )

    @property
    def measure(self) -> str:
        """The measured cost in words: its figure, unit and text."""
        figure, text = f"{self.in_bits(self.measured):z.6f}", "calibration text"
        if self.measured_tokens:
            figure += f" ± {self.in_bits(self.measured_error):.6f}"
            text = f"{self.measured_tokens:,} tokens of {text}"
        if (share := self.cost.share) is not None:
            return f"{figure} {self.unit}, {share:.2%} of the variance of hidden states (on {text})"
        return f"{figure} {self.unit} (KL on {text})"

    def in_bits(self, nats: float) -> float:
        """Return nats per token as bits per byte; as bits per token without a tokenizer."""
        return nats / math.log(2) / (self.bytes_per_token or 1.0)

    @property
    def unit(self) -> str:
        """Unit of `in_bits`."""
        return "bits/byte" if self.bytes_per_token else "bits/token"

    def as_json(self) -> dict[str, Any]:
        """Return the object that docs/plan.md describes."""
        return {
            "version": VERSION,
            **asdict(self),
            "unused": self.unused,
            "unit": self.unit,
            "expected_cost": self.in_bits(self.expected),
            "measured_cost": self.in_bits(self.measured),
            "verdict": self.cost.verdict,
            "cautions": list(self.cost.cautions),
        }

    def save(self, path: Path) -> None:
        """Write `as_json` atomically; an infinite scale (all zeros) as the string "inf"."""
        text = json.dumps(_without_infinity(self.as_json()), indent=1, allow_nan=False)
        write_atomic(path, text.encode() + b"\n")

    @classmethod
    def load(cls, path: Path) -> Plan:
        """Read a file of `save`. Raises SqueezeError when it is damaged or of another version."""
        try:
            facts = read_json(path)
            if facts.pop("version") != VERSION:
                raise ValueError("another version")
            # the others of `as_json` follow from these
            facts = {name: facts[name] for name in cls.__dataclass_fields__ if name in facts}
            facts["tensors"] = tuple(_tensor_plan(fields) for fields in facts["tensors"])
            for roles in ("roles", "finer_roles"):
                facts[roles] = _role_costs(facts.get(roles, ()))
            facts["machine"] = Machine(**facts["machine"])
            facts["tuning"] = None if facts.get("tuning") is None else Gain(**facts["tuning"])
            plan = cls(**facts)
            records: list[Record] = [plan, plan.machine, *plan.tensors, *plan.roles]
            records += [*plan.finer_roles, *filter(None, [plan.tuning])]
            for record in records:
                _check_types(record)
            return plan
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise SqueezeError(f"{path}: not a plan of this version: {error!r}") from None


Record = Plan | Machine | TensorPlan | RoleCost | Gain
# Types of a field's value, by its annotation.
ALLOWED: Mapping[str, tuple[type, ...]] = {
    "str": (str,),
    "int": (int,),
    "float": (float, int),
    "float | None": (float, int, type(None)),
}


def _tensor_plan(values: Mapping[str, Any]) -> TensorPlan:
    """Return the plan of a tensor from its JSON object; an infinite scale is the string "inf"."""
    scale = None if values["scale"] is None else float(values["scale"])
    return TensorPlan(**{**values, "scale": scale, "curve": _points(values["curve"])})


def _role_costs(rows: Any) -> tuple[RoleCost, ...]:
    """Return the costs of roles from their JSON objects."""
    return tuple(RoleCost(**{**row, "points": _points(row["points"])}) for row in rows)


def _points(pairs: Any) -> Curve:
    """Return pairs of numbers as points. Raises ValueError for one below 0 or not finite."""
    points = tuple((float(first), float(second)) for first, second in pairs)
    if not all(math.isfinite(value) and value >= 0 for point in points for value in point):
        raise ValueError("a point is below 0 or not finite")
    return points


def _check_types(record: Record) -> None:
    """Raise TypeError or ValueError for a field whose value is not of its type or out of range."""
    for column in fields(record):
        value: Any = getattr(record, column.name)
        types: Any = ALLOWED.get(str(column.type), (object,))
        if not isinstance(value, types) or isinstance(value, bool):
            raise TypeError(f"{column.name} is {value!r}"[:80])
        infinite = isinstance(value, float) and column.name != "scale" and not math.isfinite(value)
        negative = column.name == "bits" and value < 0
        if infinite or negative or (str(column.type) == "int" and not 0 <= int(value) < 1 << 62):
            raise ValueError(f"{column.name} is {value}"[:80])


def tensor_plans(
    data: bytes,
    scales: Mapping[str, float] = _EMPTY,
    losses: Mapping[str, float] = _EMPTY,
    curves: Mapping[str, Curve] = _EMPTY,
    roles: Mapping[str, str] = _EMPTY,
) -> tuple[TensorPlan, ...]:
    """Return a plan for each tensor of a `.sqz` file, in its order.

    scales, losses, curves, roles: by name, of the tensors that have one
    """
    sizes: dict[str, int] = {}
    for row in artifact_rows("", data):
        if row.tensor:
            sizes[row.tensor] = sizes.get(row.tensor, 0) + row.bytes
    return tuple(
        TensorPlan(
            name=t.name,
            kind=t.kind,
            weights=t.elements,
            bytes=sizes[t.name],
            bits=8 * sizes[t.name] / max(t.elements, 1),
            scale=scales.get(t.name),
            loss=losses.get(t.name, 0.0),
            curve=curves.get(t.name, ()),
            role=roles.get(t.name) or role_of(t.name),
        )
        for t in parse(data).tensors
    )


def kept_plan(path: Path, key: str) -> Plan | None:
    """Return the plan kept under this key, or None. Raises SqueezeError for a damaged one."""
    plan = Plan.load(path) if os.path.isfile(path) else None
    return plan if plan is not None and plan.key == key else None


def _without_infinity(value: Any) -> Any:
    """Return a JSON value with the string "inf" for each infinity."""
    if isinstance(value, dict):
        return {key: _without_infinity(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_without_infinity(inner) for inner in value]
    return "inf" if value == math.inf else value
