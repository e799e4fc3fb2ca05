"""Moments of a model's inputs and gradients, where its losses multiply weights or look rows up.

`squeeze.calib.taps` sees every way of writing a product, in 8 kB. Here are those that training scripts
use: `linear` and `matmul` with a parameter or a part of one, whether cast or turned, and `embedding`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

COPIES = "to type type_as float half bfloat16 contiguous clone detach".split()
MOVES = (
    "t T mT transpose permute view reshape flatten squeeze select __getitem__ chunk split".split()
)
OWN = "_own"  # attribute of a copy of a parameter's elements: the elements themselves


@dataclass
class Moments:
    """Sums over the tokens of all losses for a matrix.

    weights: a view [out, in] of its parameter
    inputs: of xᵀx, float32 [in, in]
    outputs: of the squared gradients at each output, [out]
    lookups: of the mean squared gradient of each row that was looked up, [out]
    count: number of inputs
    """

    weights: Tensor
    inputs: Tensor
    outputs: Tensor
    lookups: Tensor
    count: Tensor


class Uses(TorchFunctionMode):
    """Mode that collects the moments of every matrix of a module.

    moments: by the parameter's name, then by the offset and the layout of the matrix in it
    squares: sums of the squared gradients of the losses, by the parameter's name
    """

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.names = {
            parameter.untyped_storage()._cdata: name
            for name, parameter in module.named_parameters()
        }
        self.moments: dict[str, dict[Any, Moments]] = {n: {} for n in self.names.values()}
        self.squares: dict[str, Tensor] = {}

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Run a function; see what it does with parameters."""
        result = func(*args, **(kwargs or {}))
        name = getattr(func, "__name__", "")
        if name == "__get__":
            name = func.__self__.__name__  # of the property
        if name == "linear":
            self._product(args[0], self._own(args[1]), result)
        elif name in ("matmul", "__matmul__"):
            own = self._own(args[1])
            self._product(args[0], None if own is None else own.mT, result)
        elif name == "embedding":
            self._lookup(args[0], args[1], result)
        elif name == "__getitem__" and isinstance(args[1], Tensor):
            self._lookup(args[1], args[0], result)
        elif name in COPIES or name in MOVES:
            own = self._own(args[0])
            if own is not None:
                moved = own if name in COPIES else func(own, *args[1:], **(kwargs or {}))
                several = isinstance(result, tuple)
                for copy, view in zip(result, moved) if several else [(result, moved)]:  # noqa: B905
                    if self._own(view) is not None and self._own(copy) is None:
                        setattr(copy, OWN, view)
        return result

    def _own(self, tensor: Any) -> Tensor | None:
        """Return the elements of a parameter that a tensor is a view or a copy of, or None."""
        if not isinstance(tensor, Tensor):
            return None
        own: Tensor | None = getattr(tensor, OWN, None)
        return tensor if own is None and self._name(tensor) else own

    def _name(self, tensor: Tensor) -> str | None:
        return self.names.get(tensor.untyped_storage()._cdata)

    def _of(self, own: Tensor | None) -> Moments | None:
        """Return the moments of a part of a parameter, zeros at first; None where it is no matrix."""
        if own is None or own.dim() != 2:
            return None
        own, name = own.detach(), self._name(own)
        assert name is not None
        key = own.storage_offset(), own.shape, own.stride()
        if key not in self.moments[name]:
            rows, width = own.shape
            shapes = (width, width), rows, rows, 1
            zeros = [torch.zeros(shape, device=own.device) for shape in shapes]
            self.moments[name][key] = Moments(own, *zeros)
        return self.moments[name][key]

    def _product(self, x: Tensor, own: Tensor | None, result: Tensor) -> None:
        moments = self._of(own)
        if moments is None or not result.requires_grad:
            return
        inputs = _rows(x)
        moments.inputs.addmm_(inputs.T, inputs)
        moments.count += len(inputs)

        def take(gradient: Tensor) -> None:
            moments.outputs.add_(_rows(gradient).square().sum(0))

        result.register_hook(take)

    def _lookup(self, ids: Tensor, table: Tensor, result: Tensor) -> None:
        moments = self._of(self._own(table))
        if moments is None or not result.requires_grad:
            return

        def take(gradient: Tensor) -> None:
            moments.lookups.index_add_(0, ids.flatten(), _rows(gradient).square().mean(1))

        result.register_hook(take)


def uses_of(module: nn.Module, losses: Iterable[Tensor]) -> Uses:
    """Return the uses of a module's weights in losses, over all ranks of a process group.

    losses: mean losses, each computed when it is asked for

    Gradients of the module are dropped.
    """
    # compiled functions show no products
    eager = torch.compiler.set_stance("force_eager")
    with eager, torch.enable_grad(), Uses(module) as uses:
        for loss in losses:
            module.zero_grad()
            loss.backward()
            for name, parameter in module.named_parameters():
                if parameter.grad is not None:
                    square = parameter.grad.float().square()
                    uses.squares[name] = uses.squares.get(name, 0) + square
    module.zero_grad()
    if dist.is_initialized():
        for moments in uses.moments.values():
            for each in moments.values():
                for total in (each.inputs, each.outputs, each.lookups, each.count):
                    dist.all_reduce(total)
        for square in uses.squares.values():
            dist.all_reduce(square)
    return uses


def _rows(x: Tensor) -> Tensor:
    return x.detach().reshape(-1, x.size(-1)).float()
