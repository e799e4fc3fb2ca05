"""The way from a tensor of a forward back to the parameter whose elements it holds.

A parameter is followed by a *shadow*: a tensor on the meta device whose offset and strides say which
elements of the parameter a view holds. Views are recognised by their storage; copies that keep every
element where it was (casts, clones) carry a mark, and views of copies are made of the shadow too.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from squeeze.tensors.matrices import Slice


@dataclass(frozen=True)
class Weight:
    """A tensor of a forward that holds elements of a parameter, each perhaps times something.

    tensor: name of the parameter
    view: on the meta device, with the offset and strides of the elements in the parameter
    factors: tensors of the shape of `view`, or expanded to it, that multiply the elements
    """

    tensor: str
    view: Tensor
    factors: tuple[Tensor, ...] = ()

    def slice_of(self, rows: Sequence[int], columns: Sequence[int], offset: int = 0) -> Slice:
        """Return the matrix of these dimensions of the view; offset: in elements, added to its own."""
        sizes, strides = self.view.shape, self.view.stride()
        return Slice.of_axes(
            self.tensor,
            int(self.view.storage_offset()) + offset,
            tuple((sizes[dim], strides[dim]) for dim in rows),
            tuple((sizes[dim], strides[dim]) for dim in columns),
        )

    def moved(self, function: Any, args: Any, kwargs: Any, own: Tensor) -> list[Weight] | None:
        """Return the weights that a rearranging function makes of this one, or None where it copies.

        args, kwargs: of the call; own: the tensor among them that this is the weight of
        """

        def rearranged(tensor: Tensor) -> list[Tensor]:
            swapped = [tensor if value is own else value for value in args]
            made = function(*swapped, **{k: tensor if v is own else v for k, v in kwargs.items()})
            return [made] if isinstance(made, Tensor) else list(made)

        views = rearranged(self.view)
        base = self.view if self.view._base is None else self.view._base
        if any(view._base is not base for view in views):
            return None
        factors = [rearranged(factor) for factor in self.factors]
        return [
            Weight(self.tensor, view, tuple(factor[at] for factor in factors))
            for at, view in enumerate(views)
        ]


class Parameters:
    """The named parameters of a module, found again by their storage."""

    def __init__(self, named: Iterable[tuple[str, Tensor]]) -> None:
        self.shapes: dict[str, tuple[int, ...]] = {}
        self._by_storage: dict[int, list[tuple[int, int, torch.dtype, str, Tensor]]] = {}
        for name, tensor in named:
            begin, flat = int(tensor.storage_offset()), torch.empty(tensor.numel(), device="meta")
            self.shapes[name] = tuple(tensor.shape)
            row = (begin, begin + int(tensor.numel()), tensor.dtype, name, flat)
            self._by_storage.setdefault(tensor.untyped_storage()._cdata, []).append(row)

    def find(self, tensor: Tensor) -> Weight | None:
        """Return the weight that a tensor is as a view of a parameter's storage, or None."""
        try:
            rows = self._by_storage.get(tensor.untyped_storage()._cdata)
        except NotImplementedError:  # inside vmap, which makes the masks of FlexAttention
            return None
        if rows is None:
            return None
        offset = tensor.storage_offset()
        for begin, end, dtype, name, flat in rows:
            if begin <= offset < end and tensor.dtype == dtype:
                return Weight(name, flat.as_strided(tensor.shape, tensor.stride(), offset - begin))
        return None
