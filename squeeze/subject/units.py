"""Order of the hidden units of mlps, in which neighbours have weights of like size.

What an mlp computes does not depend on the order of its hidden units, so none has to be stored. From the
smallest to the largest their rows and columns cost fewer bits, since the coder foresees a weight's size
from its neighbours', and lose less, since rows make up for the errors of earlier ones (docs/log.md).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch

from squeeze.artifact.streams import Tensor
from squeeze.calib.statistics.fisher import OutputGradients
from squeeze.calib.statistics.hessian import Hessians
from squeeze.calib.taps.layout import Layout
from squeeze.subject.workpiece import Workpiece
from squeeze.tensors.floats import Bits
from squeeze.tensors.matrices import Slice
from squeeze.tensors.quantized import RawTensor

Order = npt.NDArray[np.int64]
# Largest change of a logit, as a share of the largest: float32 sums in another order move far less.
SAME = 1e-4


@dataclass(frozen=True)
class UnitOrder:
    """New order of the rows and columns of some matrices, by name: int64 [R] and [C]."""

    rows: Mapping[str, Order]
    columns: Mapping[str, Order]

    @classmethod
    def of(cls, piece: Workpiece, layout: Layout) -> UnitOrder:
        """Return the order by the sum of squares of the rows that make a unit.

        Units of matrices that the checkpoint has as codes keep their places.
        """
        rows: dict[str, Order] = {}
        columns: dict[str, Order] = {}
        for reader, makers in layout.hidden.items():
            parts = [layout.matrices[name].slice for name in (reader, *makers)]
            floats = all(isinstance(piece.stored.get(p.tensor), RawTensor) for p in parts)
            if not floats or any(maker in rows for maker in makers):
                continue
            weights = [part.matrix_of(piece.tensors[part.tensor]) for part in parts[1:]]
            sizes = sum(np.square(w.astype(np.float64)).sum(1) for w in weights)
            columns[reader] = np.argsort(sizes, kind="stable")
            rows |= dict.fromkeys(makers, columns[reader])
        return cls(rows, columns)

    def stored(self, piece: Workpiece, layout: Layout) -> dict[str, Tensor]:
        """Return the tensors of a model that change, biases of the rows included, by name."""
        bits: dict[str, Bits] = {}

        def put_(part: Slice, order: Order, axis: int) -> None:
            tensor = piece.stored[part.tensor]
            assert isinstance(tensor, RawTensor)
            values = bits.setdefault(part.tensor, np.ascontiguousarray(tensor.bits).copy())
            part.put_(values, part.matrix_of(values).take(order, axis))

        for axis, orders in enumerate((self.rows, self.columns)):
            for name, order in orders.items():
                part = layout.matrices[name].slice
                put_(part, order, axis)
                bias = piece.stored.get(name_of_bias(part))
                if not axis and isinstance(bias, RawTensor) and bias.shape == order.shape:
                    put_(Slice.whole(name_of_bias(part), (len(order), 1)), order, 0)
        changed: dict[str, Tensor] = {}
        for name, values in bits.items():
            tensor = piece.stored[name]
            assert isinstance(tensor, RawTensor)
            changed[name] = replace(tensor, bits=values)
        return changed

    def of_hessians(self, hessians: Hessians) -> Hessians:
        """Return Hessians of the same inputs in the new order of columns."""
        moved = {n: hessians.matrices[n][o][:, o] for n, o in self.columns.items()}
        return replace(hessians, matrices=hessians.matrices | moved)

    def of_gradients(self, gradients: OutputGradients) -> OutputGradients:
        """Return gradients of the same outputs in the new order of rows."""
        rows = {n: gradients.rows[n][o] for n, o in self.rows.items()}
        known = gradients.products
        products = {n: known[n][o][:, o] for n, o in self.rows.items() if n in known}
        return replace(gradients, rows=gradients.rows | rows, products=known | products)


def ordered(
    piece: Workpiece, layout: Layout, ids: torch.Tensor
) -> tuple[Workpiece, UnitOrder] | None:
    """Return a model with its hidden units in order, and that order; None where nothing is to be moved.

    layout: its matrices, read off a forward of `ids`
    ids: int64 [1, T]

    A forward of both on `ids`, which uses all those matrices, shows whether that is the same function;
    where it is not, None is returned.
    """
    order = UnitOrder.of(piece, layout)
    if not order.columns:
        return None
    changed = order.stored(piece, layout)
    subject = piece.subject
    moved = subject.with_weights({name: tensor.dequantize() for name, tensor in changed.items()})
    right, wrong = subject.logits(ids), moved.logits(ids)
    if not bool((right - wrong).abs().max() <= SAME * right.abs().max()):
        return None
    # what is kept of one order must not be taken for the other's
    key = f"{piece.key} in unit order"
    stored = {**piece.stored, **changed}
    return replace(piece, stored=stored, key=key, build=lambda: moved), order


def name_of_bias(part: Slice) -> str:
    """Return the name that a bias of a matrix usually has."""
    return part.tensor.removesuffix("weight") + "bias"
