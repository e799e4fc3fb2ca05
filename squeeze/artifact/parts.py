"""Tensors that an artifact holds in parts or under two names, as its header's configuration says.

`parts` has, by the name of a tensor, its shape and the part that each of its matrices is: offset, and
the axes (size, stride) of rows and columns. The matrices are tensors of the file, named after the tensor
and their number: `bank[0]`. `tied` has the name of the tensor that another name stands for.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping, Sequence
from math import prod
from typing import Any

import numpy as np

from squeeze.artifact.header import MAX_NDIM
from squeeze.artifact.streams import Artifact, Tensor
from squeeze.errors import BadCheckpoint, CorruptData
from squeeze.tensors.floats import to_bits
from squeeze.tensors.matrices import Slice
from squeeze.tensors.quantized import RawTensor

PARTS, TIED = "parts", "tied"


def name_of_part(tensor: str, number: int) -> str:
    """Return the name of a tensor's matrix.

    >>> name_of_part("bank", 3)
    'bank[3]'
    """
    return f"{tensor}[{number}]"


def names_of_parts(tensor: str, count: int, others: Container[str]) -> list[str]:
    """Return the names of a tensor's matrices; raises BadCheckpoint where another tensor has one."""
    names = [name_of_part(tensor, number) for number in range(count)]
    taken = next((name for name in names if name in others), None)
    if taken:
        raise BadCheckpoint(
            f"tensor {taken} has the name of a part of {tensor}",
            expected=f"no tensor called as a matrix of {tensor} is",
            fix="Rename one of them.",
        )
    return names


def parts_field(shape: Sequence[int], parts: Iterable[Slice]) -> list[Any]:
    """Return what a header says of a tensor of this shape that is stored in these parts, in order."""
    return [list(shape), [[part.offset, part.rows, part.columns] for part in parts]]


def whole_tensors(artifact: Artifact) -> dict[str, Tensor]:
    """Return the tensors of an artifact under the names of the model, those in parts put together.

    Raises CorruptData when the header's parts are not those of the file's tensors.
    """
    tensors = dict(artifact.tensors)
    fields = artifact.config.get(PARTS, {}), artifact.config.get(TIED, {})
    if not all(isinstance(field, Mapping) for field in fields):
        raise CorruptData("parts in the header are not objects")
    parts, tied = fields
    for name, field in parts.items():
        tensors[name] = _joined(name, field, tensors)
    for name, other in tied.items():
        if not isinstance(other, str) or other not in tensors or name in tensors:
            raise CorruptData(f"tensor {name[:80]} is tied to none", found=repr(other)[:80])
        tensors[name] = tensors[other]
    return tensors


def _joined(name: str, field: Any, tensors_: dict[str, Tensor]) -> Tensor:
    """Take the parts of a tensor out of `tensors_`, and return the tensor."""
    try:
        shape, rows = field
        shape = tuple(_size(size) for size in shape)
        parts = [
            Slice(
                name,
                _size(offset),
                *(tuple((_size(n), _size(s)) for n, s in axes) for axes in both),
            )
            for offset, *both in rows
        ]
        matrices = [tensors_.pop(name_of_part(name, number)) for number in range(len(parts))]
        total = prod(shape)
        fits = len(shape) <= MAX_NDIM and all(
            part.last < total and part.shape == tuple(matrix.shape)
            for part, matrix in zip(parts, matrices, strict=True)
        )
        if name in tensors_ or not parts or not fits or total != sum(p.elements for p in parts):
            raise ValueError
        values, filled = np.empty(total, np.float32), np.zeros(total, np.bool_)
        for part, matrix in zip(parts, matrices, strict=True):
            part.put_(values, matrix.dequantize())
            part.put_(filled, np.ones(part.shape, np.bool_))
        if not filled.all():
            raise ValueError
    except (KeyError, TypeError, ValueError):
        raise CorruptData(f"tensor {name[:80]} is not made up of its parts") from None
    logical = matrices[0].logical
    return RawTensor(to_bits(values.reshape(shape), logical), logical, logical)


def _size(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 1 << 31:
        raise ValueError("no size")
    return value
