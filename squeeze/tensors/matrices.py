"""Matrices inside tensors: parts of a tensor, in any order of its elements, each stored as a matrix."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt

Axes = tuple[tuple[int, int], ...]  # (size, stride in elements) of each


@dataclass(frozen=True, order=True)
class Slice:
    """A matrix [R, C] whose entries are elements of one tensor, itself contiguous.

    tensor: name of the tensor
    offset: of the first element
    rows, columns: axes whose sizes multiply to R and to C; those of size 1 left out, those that
        together step evenly joined
    """

    tensor: str
    offset: int
    rows: Axes
    columns: Axes

    @classmethod
    def of_axes(cls, tensor: str, offset: int, rows: Axes, columns: Axes) -> Slice:
        """Return the slice with its axes in their shortest form."""
        return cls(tensor, offset, _joined(rows), _joined(columns))

    @classmethod
    def whole(cls, tensor: str, shape: Sequence[int]) -> Slice:
        """Return all of a tensor, its first dimension as rows."""
        rows, columns = shape[0], prod(shape[1:])
        return cls.of_axes(tensor, 0, ((rows, columns),), ((columns, 1),))

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return prod(size for size, _ in self.rows), prod(size for size, _ in self.columns)

    @property
    def sizes(self) -> tuple[int, ...]:
        """Sizes of the axes, those of the rows first."""
        return tuple(size for size, _ in (*self.rows, *self.columns))

    @property
    def strides(self) -> tuple[int, ...]:
        """Strides of the axes, in elements."""
        return tuple(stride for _, stride in (*self.rows, *self.columns))

    @property
    def elements(self) -> int:
        """Number of weights."""
        return prod(self.shape)

    @property
    def last(self) -> int:
        """Position of the last element in the flattened tensor."""
        return self.offset + sum(
            (size - 1) * stride for size, stride in (*self.rows, *self.columns)
        )

    @property
    def index(self) -> npt.NDArray[np.int64]:
        """Positions int64 [R, C] of the entries in the flattened tensor."""
        index: npt.NDArray[np.int64] = np.array(self.offset, np.int64)
        for size, stride in (*self.rows, *self.columns):
            index = index[..., None] + np.arange(size) * stride
        return np.asarray(index, np.int64).reshape(self.shape)

    def matrix_of(self, values: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Return the matrix [R, C] of a tensor's values, of any shape and contiguous; a copy."""
        return np.ascontiguousarray(self._view(values).reshape(self.shape))

    def put_(self, values: npt.NDArray[Any], matrix: npt.NDArray[Any]) -> None:
        """Write the matrix [R, C] into a tensor's values."""
        view = self._view(values)
        view[...] = matrix.reshape(view.shape)

    def _view(self, values: npt.NDArray[Any]) -> npt.NDArray[Any]:
        flat = values.reshape(-1)
        return np.lib.stride_tricks.as_strided(
            flat[self.offset :],
            self.sizes,
            [stride * flat.itemsize for stride in self.strides],
        )


def _joined(axes: Axes) -> Axes:
    joined: list[tuple[int, int]] = []
    for size, stride in axes:
        if size == 1:
            continue
        if joined and joined[-1][1] == size * stride:
            joined[-1] = (joined[-1][0] * size, stride)
        else:
            joined.append((size, stride))
    return tuple(joined)
