"""Parts of tensors: how the slices that a forward uses divide a tensor into matrices."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from math import prod

import numpy as np
import numpy.typing as npt

from squeeze.tensors.matrices import Slice

WIDEST_INPUT = 16_384  # columns of a Hessian, of which 1 GiB would be the next size
NARROW = 64  # entries of a row of the last dimensions: a kernel, not a matrix of its own
Positions = npt.NDArray[np.int64]


def parts_of(
    name: str, shape: tuple[int, ...], used: list[Slice]
) -> dict[Slice, list[Slice]] | None:
    """Return disjoint slices that make up a tensor, each with the used ones that lie inside it.

    None where the used slices do not make it up, overlap without one holding the other, or are too wide.
    """
    if not used or any(part.shape[1] > WIDEST_INPUT for part in used):
        return None
    parts: dict[Slice, list[Slice]] = {}
    owner = np.full(prod(shape), -1, np.int32)
    for part in sorted(used, key=lambda part: (-part.elements, part)):
        index = part.index
        owners = np.unique(owner[index])
        if len(owners) != 1:
            return None
        if owners[0] < 0:
            owner[index] = len(parts)
            parts[part] = [part]
        else:
            outer = list(parts)[owners[0]]
            if within(part, outer) is None:
                return None
            parts[outer].append(part)
    unused = _unused(name, shape, owner < 0)
    return None if unused is None else parts | {part: [] for part in unused}


def _unused(name: str, shape: tuple[int, ...], free: npt.NDArray[np.bool_]) -> list[Slice] | None:
    """Return slices of whole indexes of the first dimension that nothing uses, None for other gaps."""
    free = free.reshape(shape[0], -1)
    if not (free.any(1) == free.all(1)).all():
        return None
    width, part = prod(shape[1:]), Slice.whole(name, shape[1:])
    (numbers,) = np.nonzero(free.all(1))
    if len(shape) == 2:
        runs = np.split(numbers, np.flatnonzero(np.diff(numbers) > 1) + 1) if len(numbers) else []
        return [
            Slice.of_axes(name, int(run[0]) * width, ((len(run), width),), ((width, 1),))
            for run in runs
        ]
    return [Slice(name, int(n) * width, part.rows, part.columns) for n in numbers]


def within(part: Slice, outer: Slice) -> tuple[Positions, Positions] | None:
    """Return the rows and columns of `outer` that are `part`, or None when it is no such choice."""
    inner, index = part.index, outer.index
    (row,), (column,) = np.nonzero(index == inner[0, 0])
    by_row = {int(element): at for at, element in enumerate(index[:, column])}
    by_column = {int(element): at for at, element in enumerate(index[row])}
    rows = np.array([by_row.get(int(element), 0) for element in inner[:, 0]])
    columns = np.array([by_column.get(int(element), 0) for element in inner[0]])
    return (rows, columns) if np.array_equal(index[np.ix_(rows, columns)], inner) else None


def pieces(name: str, shape: tuple[int, ...]) -> list[Slice]:
    """Return the matrices of a tensor of which only the gradients are known.

    The last two dimensions are a matrix, those before count matrices, except in kernels.
    """
    if len(shape) == 2 or prod(shape[2:]) <= NARROW:
        return [Slice.whole(name, shape)]
    size = shape[-2] * shape[-1]
    part = Slice.whole(name, shape[-2:])
    return [Slice(name, at * size, part.rows, part.columns) for at in range(prod(shape[:-2]))]


def named(name: str, shape: tuple[int, ...], parts: Iterable[Slice]) -> Iterator[tuple[Slice, str]]:
    """Yield slices with the names of their matrices, in the order of the tensor."""
    ordered = sorted(parts)
    if len(shape) == 2 and ordered == [Slice.whole(name, shape)]:
        yield ordered[0], name
        return
    for number, part in enumerate(ordered):
        yield part, f"{name}[{number}]"
