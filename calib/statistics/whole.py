"""Taps for models that multiply whole matrices by `F.linear` and look up whole tables, such as our own.

They show what `squeeze.calib.taps.taps` does of such models, in a fraction of its code: the script of a
submission ships them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from squeeze.calib.statistics.tapped import Forward, TappedModel, idle_parameters
from squeeze.calib.taps.layout import BOTH, LOOKUP, PRODUCT, UNUSED, Layout, Matrix, Place
from squeeze.calib.taps.observer import Lookup
from squeeze.tensors.matrices import Slice


@dataclass(frozen=True)
class WholeProduct:
    """Product of a whole parameter with activations [..., in]; as `squeeze.calib.taps.products`."""

    slices: tuple[Slice, ...]
    activations: Tensor

    def inputs(self) -> Tensor:
        """Return the inputs [1, n, in]."""
        return self.outputs(self.activations)

    def outputs(self, y: Tensor) -> Tensor:
        """Return outputs or their gradients [1, n, out]."""
        return y.reshape(1, -1, y.size(-1))


class WholeTaps(TorchFunctionMode):
    """Mode that shows an observer every product and lookup of whole parameters.

    parameters: slices by the storage of the parameter
    """

    def __init__(self, parameters: dict[int, Slice], observer: Any) -> None:
        super().__init__()
        self.parameters, self.observer = parameters, observer

    def begin(self, ids: Tensor) -> Tensor:
        """Return tokens."""
        return ids

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Run a function and show what it does with a parameter."""
        result = func(*args, **(kwargs or {}))
        if func is F.linear:
            used = self.parameters[_storage(args[1])]
            return self.observer.on_product(WholeProduct((used,), args[0]), result, "")
        if func is F.embedding:
            used = self.parameters[_storage(args[1])]
            return self.observer.on_lookup(Lookup(used, args[0]), result, "")
        return result


@dataclass
class _Uses:
    """Observer of one forward. inputs: of the products of each slice. looked_up: tables.

    activations: kept, so that no other tensor gets the identity of one that is gone
    """

    inputs: dict[Slice, tuple[int, ...]] = field(default_factory=dict)
    looked_up: set[Slice] = field(default_factory=set)
    activations: list[Tensor] = field(default_factory=list)
    last: str = ""

    def on_product(self, product: WholeProduct, output: Tensor, source: str) -> Tensor:
        """Note a product."""
        (used,) = product.slices
        self.last = used.tensor
        self.activations.append(product.activations)
        self.inputs[used] = (*self.inputs.get(used, ()), id(product.activations))
        return output

    def on_lookup(self, lookup: Lookup, output: Tensor, source: str) -> Tensor:
        """Note a lookup."""
        self.looked_up.add(lookup.slice)
        return output


@torch.no_grad()
def whole_model(module: nn.Module, forward: Forward, ids: Tensor) -> TappedModel:
    """Return a model under taps, its matrices read off one forward of ids int64 [B, T].

    The last product makes the output. What is used otherwise is no matrix.
    """
    parameters = {
        _storage(weight): Slice.whole(name, tuple(weight.shape))
        for name, weight in module.named_parameters()
        if weight.dim() > 1 and weight.numel()
    }
    uses = _Uses()
    with WholeTaps(parameters, uses):
        forward(module, ids)
    idle = idle_parameters(module)
    owners: dict[object, str] = {}
    matrices = {}
    for used in parameters.values():
        name, inputs = used.tensor, uses.inputs.get(used, ())
        if used in uses.looked_up:
            how = BOTH if inputs else LOOKUP
        elif inputs or name in idle:
            how = PRODUCT if inputs else UNUSED
        else:
            continue
        matrices[name] = Matrix(name, used, how, "other", owners.setdefault(inputs or name, name))
    places = {matrix.slice: Place(name) for name, matrix in matrices.items()}
    layout = Layout(matrices, places, {}, {}, uses.last)
    return TappedModel(module, forward, partial(WholeTaps, parameters), layout)


def _storage(tensor: Tensor) -> int:
    storage: int = tensor.untyped_storage()._cdata
    return storage
