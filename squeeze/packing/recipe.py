"""Checkpoint → artifact: a precision for each tensor by its role, what is quantized and what stored."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from squeeze.artifact.layout import FLOATS
from squeeze.artifact.parts import PARTS, names_of_parts, parts_field
from squeeze.artifact.streams import Artifact, Tensor
from squeeze.calib.quantizers.grids import find_grid
from squeeze.calib.quantizers.round_to_nearest import MAX_BITS, MIN_BITS, quantize_rtn
from squeeze.calib.taps.layout import FLOAT, Layout
from squeeze.calib.taps.parts import pieces
from squeeze.errors import BadConfig
from squeeze.packing.quantizer import QUANTIZED, Contents
from squeeze.subject.workpiece import Workpiece
from squeeze.tensors.floats import Float32, from_bits, to_bits
from squeeze.tensors.integers import is_pattern
from squeeze.tensors.matrices import Slice
from squeeze.tensors.quantized import QuantizedTensor, RawTensor
from squeeze.tensors.roles import ROLES, natural_key, role_of

FLOAT_FORMATS = (*FLOATS, "keep")
_NO_ROLES: Mapping[str, str] = {}


@dataclass(frozen=True)
class Precision:
    """Storage of a role's matrices: codes of `bits` bits, or floats when `bits` is 0.

    k: clip in standard deviations of a row; None clips at the row's largest magnitude
    floats: format when `bits` is 0; "keep" stores what the checkpoint has
    """

    bits: int = 0
    k: float | None = None
    floats: str = "keep"

    @classmethod
    def parse(cls, text: str) -> Precision:
        """Read `BITS:K`, `BITS` (clip at the maximum) or a float format.

        >>> Precision.parse("6:12.85")
        Precision(bits=6, k=12.85, floats='keep')
        """
        if text in FLOAT_FORMATS:
            return cls(floats=text)
        bits, _, k = text.partition(":")
        try:
            precision = cls(int(bits), float(k) if k else None)
        except ValueError:
            precision = cls()
        clips = precision.k is None or 0 < precision.k < math.inf
        if not (MIN_BITS <= precision.bits <= MAX_BITS and clips):
            raise BadConfig(
                "bad precision",
                expected=f"BITS or BITS:K, {MIN_BITS}…{MAX_BITS} bits; or {', '.join(FLOAT_FORMATS)}",
                found=text,
            )
        return precision


# int6 matrices at 12.85 σ and int8 embeddings at 20 σ: record #1394/#1493
RECORD_1394 = {
    "embed": Precision(8, 20.0),
    "attn": Precision(6, 12.85),
    "mlp": Precision(6, 12.85),
    "other": Precision(6, 12.85),
}


@dataclass(frozen=True)
class Recipe:
    """Precisions by role, and the storage of small tensors.

    precisions: by role or by its first part ("attn" covers "attn.q"); the longest key wins
    small: tensors of one dimension, or of at most so many elements, are stored as `small_floats`, those
        beyond its range as they are (the challenge's int8 export draws the line at 65,536)
    roles: of tensors, by name; the names of others say it
    """

    precisions: Mapping[str, Precision] = field(default_factory=lambda: RECORD_1394)
    small: float = 65_536
    small_floats: str = "fp16"
    roles: Mapping[str, str] = field(default_factory=dict)

    def is_small(self, shape: tuple[int, ...]) -> bool:
        """Return whether a tensor stays floats for its size, whatever its role."""
        return len(shape) < 2 or int(np.prod(shape)) <= self.small

    def precision_for(self, name: str, shape: tuple[int, ...]) -> Precision:
        """Return the storage of the tensor of this name and shape."""
        if self.is_small(shape):
            return Precision(floats=self.small_floats)
        role = self.roles.get(name) or role_of(name)
        return self.precisions.get(role) or self.precisions[role.split(".")[0]]


SMALLEST_GRID = 1024  # weights; steps of anything smaller outweigh what codes save

LOSSLESS = Recipe(
    precisions={role.split(".")[0]: Precision() for role in ROLES}, small_floats="keep"
)


def parse_precisions(rules: Mapping[str, str]) -> dict[str, Precision]:
    """Return precisions from `ROLE=SPEC` pairs over the defaults; "all" stands for every role.

    Raises BadConfig for an unknown role.
    """
    groups = sorted({role.split(".")[0] for role in ROLES})
    precisions = dict(RECORD_1394)
    for role, text in rules.items():
        if role == "all":
            precisions = dict.fromkeys(groups, Precision.parse(text))
        elif role in ROLES or role in groups:
            precisions[role] = Precision.parse(text)
        else:
            raise BadConfig(
                "unknown role", expected=", ".join(["all", *groups, *ROLES]), found=role
            )
    return precisions


def quantize_checkpoint(
    tensors: Mapping[str, Tensor], header: Mapping[str, Any], recipe: Recipe
) -> Artifact:
    """Return the artifact of a checkpoint, with each float tensor quantized as the recipe says.

    Integer codes of a foreign export are stored as they are. A bank of matrices is stored in parts, so
    that every row has its own step. The tensors are in natural name order, so that equal checkpoints
    give equal bytes whatever order their file had. Raises BadConfig when a value does not fit the float
    format of its role, BadCheckpoint where another tensor has the name of a part.
    """
    packed: dict[str, Tensor] = {}
    parts: dict[str, object] = {}
    for name in sorted(tensors, key=natural_key):
        tensor = tensors[name]
        inside = _matrices_of(name, tensor, recipe)
        if inside:
            parts[name] = parts_field(tensor.shape, inside)
            values = tensor.dequantize()
            for label, part in zip(names_of_parts(name, len(inside), tensors), inside, strict=True):
                bits = to_bits(part.matrix_of(values), tensor.logical)
                matrix = RawTensor(bits, tensor.logical, tensor.logical)
                packed[label] = _store(name, matrix, recipe)
        else:
            packed[name] = _store(name, tensor, recipe)
    return Artifact({**header, **({PARTS: parts} if parts else {})}, packed)


def _matrices_of(name: str, tensor: Tensor, recipe: Recipe) -> list[Slice]:
    """Return the matrices of a bank that are to be rounded; none for any other tensor."""
    if isinstance(tensor, QuantizedTensor) or len(tensor.shape) < 3 or _is_fixed(tensor):
        return []
    inside = pieces(name, tensor.shape)
    return inside if len(inside) > 1 and recipe.precision_for(name, inside[0].shape).bits else []


def contents_of(
    piece: Workpiece,
    layout: Layout,
    small_floats: str,
    smallest: int = QUANTIZED,
    roles: Mapping[str, str] = _NO_ROLES,
) -> Contents:
    """Return the large matrices of a layout, to be quantized, and the rest as it will be stored.

    A tensor that is not one matrix [rows, columns] is stored in parts, where any of them is large.

    smallest: weights of a large matrix, at least
    roles: of matrices and tensors by name, as a forward showed them

    Raises BadCheckpoint where another tensor has the name of a part.
    """
    matrices: dict[str, Float32] = {}
    rest: dict[str, Tensor] = {}
    parts: dict[str, object] = {}
    logical: dict[str, str] = {}
    for name, tensor in piece.stored.items():
        inside = layout.of_tensor(name)
        large = [m for m in inside if m.how != FLOAT and m.slice.elements >= smallest]
        if not large or _is_fixed(tensor):
            rest[name] = tensor
            continue
        matrices |= {m.name: m.slice.matrix_of(piece.tensors[name]) for m in large}
        logical |= {m.name: tensor.logical for m in large}
        rest |= {m.name: piece.matrix(m.name, layout) for m in inside if m not in large}
        if inside[0].name != name:
            names = names_of_parts(name, len(inside), piece.stored)
            assert [m.name for m in inside] == names
            parts[name] = parts_field(tensor.shape, [m.slice for m in inside])
    others = as_floats(rest, small_floats)
    order = tuple(sorted([*matrices, *rest], key=natural_key))
    header = {
        **piece.header,
        **({PARTS: parts} if parts else {}),
        **piece.roles_field(order, roles),
    }
    return Contents(matrices, others, order, header, logical)


def _is_fixed(tensor: Tensor) -> bool:
    """Return whether floats are a mask or the like, kept among the weights: some bytes hold it exactly.

    Files of GPT-2 have one of a megabyte in each layer.
    """
    if isinstance(tensor, QuantizedTensor) or tensor.bits.size < SMALLEST_GRID:
        return False
    rows = tensor.bits.size // tensor.bits.shape[-1] if len(tensor.shape) > 1 else 1
    return rows > 1 and bool(tensor.bits.any()) and is_pattern(tensor.bits)


def as_floats(tensors: Mapping[str, Tensor], small_floats: str) -> dict[str, Tensor]:
    """Return tensors of any size as floats.

    Integer codes of a foreign export, and what is beyond the format's range, stay as they are.
    """
    return quantize_checkpoint(tensors, {}, Recipe({}, math.inf, small_floats)).tensors


def _store(name: str, tensor: Tensor, recipe: Recipe) -> Tensor:
    if isinstance(tensor, QuantizedTensor) or _is_fixed(tensor):
        return tensor
    precision = recipe.precision_for(name, tensor.shape)
    if precision.bits:
        return quantize_rtn(
            tensor.dequantize(),
            precision.bits,
            precision.k,
            logical=tensor.logical,
        )
    if precision.floats in ("keep", tensor.stored):
        return on_grid(tensor) or tensor
    values = tensor.dequantize()
    bits = to_bits(values, precision.floats)
    if not np.isfinite(from_bits(bits, precision.floats)).all():
        if recipe.is_small(tensor.shape):
            return tensor
        raise BadConfig(
            f"tensor {name} does not fit {precision.floats}",
            expected="magnitudes below 65,520 for fp16",
            found=f"{float(np.abs(values).max()):g}",
            fix="Ask for bf16, fp32 or keep.",
        )
    return RawTensor(bits, precision.floats, tensor.logical)


def on_grid(tensor: Tensor) -> QuantizedTensor | None:
    """Return a tensor as integer codes that give back every one of its bits; None when it is no grid.

    Checkpoints of quantization-aware training, and those decoded from an integer export, hold grids.
    """
    if isinstance(tensor, QuantizedTensor):
        return tensor
    if len(tensor.shape) < 2 or tensor.bits.size < SMALLEST_GRID:
        return None
    grid = find_grid(tensor.dequantize(), tensor.logical)
    if grid is None or not np.array_equal(to_bits(grid.dequantize(), tensor.stored), tensor.bits):
        return None  # such as a grid with minus zeros
    return grid
