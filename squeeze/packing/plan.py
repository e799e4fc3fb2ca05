"""The plan of a pack: bits, bytes and expected cost of every tensor, and what other bits would cost.

Kept as `plan.json` in the cache beside the artifact (docs/plan.md), where it also lets a pack of the
same settings go on without a search.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from squeeze.artifact.container import parse
from squeeze.errors import SqueezeError
from squeeze.files import read_file, read_json, sha256, write_atomic
from squeeze.ledger.attribute import artifact_rows
from squeeze.ledger.files import Read

VERSION = 1
Curve = tuple[tuple[float, float], ...]  # (bits a weight, nats per token)
_NOTHING: Mapping[str, Any] = {}


@dataclass(frozen=True)
class TensorPlan:
    """Storage of one tensor, and its price.

    kind: raw, uniform or trellis
    bytes: of all its streams, shared ones in proportion
    bits: of those bytes, per weight
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


@dataclass(frozen=True)
class RoleCost:
    """Cost of a role's tensors beside what the quadratic model expects, in nats per token.

    A tensor that the model expects to lose L at b bits a weight costs L·(factor + growth·4^−b): the
    relative error of its weights is about 4^−b, and what is not quadratic grows with it.

    points: pairs (expected, measured as KL) that both are from, with nothing but this role quantized,
        in the steps that were packed and in coarser ones
    """

    role: str
    factor: float
    growth: float
    points: Curve

    def real(self, loss: float, bits: float) -> float:
        """Return the cost of a tensor with this expected loss and bits a weight."""
        return loss * (self.factor + self.growth * 4.0**-bits)


@dataclass(frozen=True)
class Machine:
    """Kind of machine whose arithmetic decided a plan; one kind gives the same bits on any threads.

    processor: vendor, family and model
    instructions: instruction set of torch, and environment variables that choose another
    torch, numpy, numba: releases
    """

    processor: str = ""
    instructions: str = ""
    torch: str = ""
    numpy: str = ""
    numba: str = ""


@dataclass(frozen=True)
class Plan:
    """A packed file and why it looks so.

    key: hash of everything it came from
    sha256, size: of the file
    limit: bytes that the artifact may have
    trials: whole quantizations of the search
    expected, measured: cost in nats per token, by the quadratic model and as mean KL(fp32 ‖ packed)
        on calibration text
    bytes_per_token: of that text; None where no tokenizer was given
    tensors: storage and price of each, in the order of the file
    roles: where the quadratic model is right, and where not
    machine: kind of machine that made it; its fields are empty in plans of earlier releases
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
    machine: Machine = Machine()

    @property
    def unused(self) -> int:
        """Bytes under the limit."""
        return self.limit - self.size

    @property
    def scales(self) -> dict[str, float]:
        """Scale of every matrix that was quantized, by name."""
        return {t.name: t.scale for t in self.tensors if t.scale is not None}

    def in_bits(self, nats: float) -> float:
        """Return nats per token as bits per byte; as bits per token without a tokenizer."""
        return nats / math.log(2) / (self.bytes_per_token or 1.0)

    @property
    def unit(self) -> str:
        """Unit of `in_bits`."""
        return "bits/byte" if self.bytes_per_token else "bits/token"

    def as_json(self) -> dict[str, Any]:
        """Return the object that docs/plan.md describes."""
        return {"version": VERSION, **asdict(self), "unused": self.unused, "unit": self.unit,
                "expected_cost": self.in_bits(self.expected),
                "measured_cost": self.in_bits(self.measured)}  # fmt: skip

    def save(self, path: Path) -> None:
        """Write `as_json` atomically; an infinite scale (all zeros) as the string "inf"."""
        text = json.dumps(_without_infinity(self.as_json()), indent=1, allow_nan=False)
        write_atomic(path, text.encode() + b"\n")

    @classmethod
    def load(cls, path: Path) -> Plan:
        """Read what `save` wrote. Raises SqueezeError when it is damaged or of another version."""
        try:
            facts = read_json(path)
            if facts.pop("version") != VERSION:
                raise ValueError("another version")
            for derived in ("unused", "unit", "expected_cost", "measured_cost"):
                del facts[derived]
            tensors = tuple(
                TensorPlan(**{
                    **t,
                    "scale": None if t["scale"] is None else float(t["scale"]),
                    "curve": _points(t["curve"]),
                })
                for t in facts.pop("tensors")
            )  # fmt: skip
            roles = tuple(
                RoleCost(**{**r, "points": _points(r["points"])}) for r in facts.pop("roles", ())
            )
            machine = Machine(**facts.pop("machine", {}))
            plan = cls(**facts, tensors=tensors, roles=roles, machine=machine)
            records: tuple[Record, ...] = (plan, machine, *tensors, *roles)
            for record in records:
                _check_types(record)
            return plan
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise SqueezeError(f"{path}: not a plan of this version: {error!r}") from None


Record = Plan | Machine | TensorPlan | RoleCost


def _points(pairs: Any) -> Curve:
    points = tuple((float(first), float(second)) for first, second in pairs)
    if not all(math.isfinite(value) and value >= 0 for point in points for value in point):
        raise ValueError("a point is below 0 or not finite")
    return points


def _check_types(record: Record) -> None:
    """TypeError unless every field of a plan just read is what its annotation says."""
    allowed = {
        "str": (str,), "int": (int,), "float": (float, int), "float | None": (float, int, type(None)),
    }  # fmt: skip
    for field in fields(record):
        value: Any = getattr(record, field.name)
        kinds: Any = allowed.get(str(field.type))
        if kinds is None:
            continue
        if not isinstance(value, kinds) or isinstance(value, bool):
            raise TypeError(f"{field.name} is {value!r}"[:80])
        if isinstance(value, float) and field.name != "scale" and not math.isfinite(value):
            raise ValueError(f"{field.name} is {value}")
        if field.name == "bits" and value < 0:
            raise ValueError(f"bits are {value}")
        if str(field.type) == "int" and not 0 <= int(value) < 1 << 62:
            raise ValueError(f"{field.name} is {value}"[:80])


def tensor_plans(
    data: bytes,
    scales: Mapping[str, float] = _NOTHING,
    losses: Mapping[str, float] = _NOTHING,
    curves: Mapping[str, Curve] = _NOTHING,
) -> tuple[TensorPlan, ...]:
    """A plan for each tensor of a `.sqz` file, in its order, with what is known of them."""
    sizes: dict[str, int] = {}
    for row in artifact_rows("", data):
        if row.tensor:
            sizes[row.tensor] = sizes.get(row.tensor, 0) + row.bytes
    return tuple(
        TensorPlan(
            t.name,
            t.kind,
            t.elements,
            sizes[t.name],
            8 * sizes[t.name] / max(t.elements, 1),
            scales.get(t.name),
            losses.get(t.name, 0.0),
            curves.get(t.name, ()),
        )
        for t in parse(data).tensors
    )


def kept_plan(path: Path, key: str) -> Plan | None:
    """The plan kept under this key, None when there is none. Raises SqueezeError for a damaged one."""
    if not path.is_file():
        return None
    plan = Plan.load(path)
    return plan if plan.key == key else None


def plan_of(paths: Iterable[str | os.PathLike[str]], read: Read = read_file) -> Plan | None:
    """Return the plan kept beside the one artifact among paths; None when there is no such plan.

    A plan of another version or of other bytes is none. read: gives a file's bytes.
    """
    artifacts = [path for path in map(Path, paths) if path.suffix == ".sqz"]
    if len(artifacts) != 1:
        return None
    (artifact,) = artifacts
    beside = artifact.with_name(artifact.name + ".cache") / "plan.json"
    if not beside.is_file():
        return None
    try:
        plan = Plan.load(beside)
    except SqueezeError:
        return None
    return plan if is_of(plan, read(artifact)) else None


def is_of(plan: Plan, data: bytes) -> bool:
    """Whether the plan describes this file."""
    return plan.sha256 == sha256(data)


def _without_infinity(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_infinity(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_without_infinity(inner) for inner in value]
    return "inf" if value == math.inf else value
