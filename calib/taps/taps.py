"""The mode under which a forward shows where its weights are used.

Three kinds of tensors are told apart: weights (elements of one parameter, perhaps cast, rearranged or
scaled), activations (all that depends on the tokens), and everything else: constants, and tensors
computed from parameters alone, such as fake-quantized or merged weights. A product of a weight and
an activation is one, however it is written; any other use of a weight is reported as other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import FunctionType
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

from squeeze.calib.taps import forms
from squeeze.calib.taps.marks import MARK, TOKENS, Activation, is_activation, marked_
from squeeze.calib.taps.observer import Lookup, Observer
from squeeze.calib.taps.products import Product, product_of
from squeeze.calib.taps.weights import Parameters, Weight

# Functions whose result holds the elements of a tensor where they were, and
COPIES = frozenset(
    "contiguous clone detach to type type_as float half bfloat16 double cpu cuda alias "
    "requires_grad_ data".split()
)
# those that only put them into another order.
MOVES = frozenset(
    "t T mT transpose permute view reshape view_as reshape_as flatten unflatten squeeze unsqueeze "
    "select narrow __getitem__ chunk split split_with_sizes unbind tensor_split expand expand_as "
    "swapaxes swapdims movedim moveaxis".split()
)
SCALES = frozenset("mul __mul__ __rmul__ multiply div true_divide __truediv__".split())
DIVISIONS = frozenset("div true_divide __truediv__".split())
# Functions of activations that show what their arguments are for (see `squeeze.calib.taps.roles`).
TELLING = frozenset("sigmoid softmax scaled_dot_product_attention".split())


class Taps(TorchFunctionMode):
    """Mode that shows every use of `parameters` to an observer.

    Enter it in the thread that runs the forward, and mark the tokens with `begin`.
    """

    def __init__(self, parameters: Parameters, observer: Observer) -> None:
        super().__init__()
        self.parameters, self.observer = parameters, observer
        self.count = 0

    def begin(self, ids: Tensor) -> Tensor:
        """Return tokens marked as the beginning of a forward."""
        self.count = 0
        ids = ids.view_as(ids)
        setattr(ids, MARK, TOKENS)
        return ids

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Run a function and follow what its results are made of."""
        kwargs = kwargs or {}
        if func is F.multi_head_attention_forward:
            with self:
                return _OPENED_ATTENTION(*args, **kwargs)
        result = func(*args, **kwargs)
        tensors = list(_tensors(args)) + list(_tensors(kwargs.values()))
        weights = [(t, w) for t in tensors if (w := self.weight_of(t)) is not None]
        marks = [m for t in tensors if isinstance(m := getattr(t, MARK, None), Activation)]
        if not weights and not marks:
            return result
        name = _name_of(func)
        if name in COPIES or name in MOVES:
            # what else is among the arguments gives a shape or a dtype, or rows to look up
            own = weights[0][0] if weights else None
            if own is not None and own is args[0]:
                shown = self._shown(name, args, kwargs, result)
                return self._moved(name, func, args, kwargs, result) if shown is None else shown
            weights = []
        if weights:
            result = self._used(name, args, kwargs, weights, bool(marks), result)
        if marks:
            self._activated(name, args, marks, result)
        return result

    def weight_of(self, tensor: Tensor) -> Weight | None:
        """Return the elements of a parameter that a tensor holds, or None."""
        mark = getattr(tensor, MARK, None)
        if isinstance(mark, Weight):
            return mark
        return None if mark is not None else self.parameters.find(tensor)

    def _used(
        self,
        name: str,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        weights: list[tuple[Tensor, Weight]],
        active: bool,
        result: Any,
    ) -> Any:
        """Show the use of weights by one call, and return what the forward goes on with."""
        shown = self._shown(name, args, kwargs, result)
        if shown is not None:
            return shown
        if not any(made.is_floating_point() for made in _tensors([result])):
            return result
        if not active and name in SCALES and self._scale(name, args, weights, result):
            return result
        bias = {id(value) for value in _biases(name, args, kwargs)}
        for tensor, weight in weights:
            if id(tensor) not in bias:
                self.observer.on_other(weight, name)
        return result

    def _shown(
        self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any
    ) -> Tensor | None:
        """Return the result of a product or lookup that was shown, or None for any other call."""
        looked_up = forms.table_of(name, args, kwargs)
        if looked_up is not None:
            ids, table = looked_up
            weight = self.weight_of(table)
            if weight is None or weight.factors or weight.view.dim() < 2:
                return None
            rows = weight.slice_of([0], list(range(1, weight.view.dim())))
            source = self._next("lookup")
            result = self.observer.on_lookup(Lookup(rows, ids), result, source)
            return marked_(result, Activation(frozenset({source})))
        product = self._product(name, args, kwargs, result)
        if product is None:
            return None
        source = self._next("product")
        result = self.observer.on_product(product, result, source)
        return marked_(result, Activation(frozenset({source})))

    def _product(
        self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any
    ) -> Product | None:
        factors = forms.operands(name, args, kwargs)
        if factors is None or not all(isinstance(factor, Tensor) for factor in factors):
            return None
        second = is_activation(factors[0])
        x, w = factors if second else reversed(factors)
        weight = self.weight_of(w)
        if weight is None or not is_activation(x):
            return None
        if name in forms.CONVOLUTIONS:
            form = forms.convolution(name, args, kwargs, weight)
            return None if form is None else product_of(form[0], x, result, form[1])
        dims = (factors[0].dim(), factors[1].dim())
        letters = forms.letters_of(name, args, kwargs, dims, second)
        return None if letters is None else product_of(weight, x, result, letters)

    def _moved(
        self, name: str, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any
    ) -> Any:
        """Mark results that only rearrange or cast the weight args[0], and return them."""
        weight = self.weight_of(args[0])
        assert weight is not None
        results = list(_tensors([result]))
        if not weight.factors and all(self.parameters.find(made) is not None for made in results):
            return result
        moved = [weight]
        if name not in COPIES:
            moved = weight.moved(func, args, kwargs, args[0]) or []
        for made, view in zip(results, moved, strict=False):
            if made.is_floating_point():
                marked_(made, view)
        if not moved:
            self.observer.on_other(weight, name)
        return result

    def _scale(
        self,
        name: str,
        args: tuple[Any, ...],
        weights: list[tuple[Tensor, Weight]],
        result: Tensor,
    ) -> bool:
        """Mark a weight that is multiplied by a number or a constant; False for anything else."""
        first, second = args[:2]
        whole = [w for t, w in weights if t.shape == result.shape and t.numel() == result.numel()]
        if len(whole) != 1 or (name in DIVISIONS and weights[0][0] is not first):
            return False
        (weight,) = whole
        own = next(t for t, w in weights if w is weight)
        factor = second if own is first else first
        for tensor, other in weights:
            if tensor is not own:
                self.observer.on_other(other, name)
        factor = torch.as_tensor(factor, dtype=torch.float32, device=own.device).detach()
        factor = 1.0 / factor if name in DIVISIONS else factor
        factors = (*weight.factors, factor.expand(result.shape))
        marked_(result, Weight(weight.tensor, weight.view, factors))
        return True

    def _activated(
        self, name: str, args: tuple[Any, ...], marks: list[Activation], result: Any
    ) -> None:
        """Mark the results of a function of activations."""
        mark = marks[0]
        if any(other is not mark for other in marks[1:]):
            mark = Activation(frozenset().union(*(other.sources for other in marks)))
        joined = name in forms.MATMULS and len(marks) > 1
        if name in TELLING or joined or (name == forms.EINSUM and len(marks) > 1):
            tensors = list(_tensors(args))
            sources = [getattr(t, MARK, TOKENS).sources for t in tensors if is_activation(t)]
            told = self._next("products" if name not in TELLING else name)
            self.observer.on_activation(name, sources, told)
            mark = Activation(frozenset({told}))
        changed = name.endswith("_") or result is None
        for made in _tensors([args[0] if changed and args else None, result]):
            current = getattr(made, MARK, None)
            if current is None or changed:
                marked_(made, mark)

    def _next(self, kind: str) -> str:
        self.count += 1
        return f"{kind} {self.count}"


def _name_of(func: Any) -> str:
    """Return the name of a function; that of the property for the getter of one."""
    name: str = getattr(func, "__name__", "")
    return str(getattr(func.__self__, "__name__", name)) if name == "__get__" else name


def _tensors(values: Any) -> Iterator[Tensor]:
    """Yield the tensors among values, also inside lists and tuples."""
    for value in values:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, list | tuple):
            yield from _tensors(value)


def _biases(name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Iterator[Any]:
    """Yield the arguments of a product that are added to its result."""
    if name == forms.LINEAR or name in forms.CONVOLUTIONS:
        yield forms.bound(forms.CONVOLUTION_NAMES, args, kwargs).get("bias")
    elif name in forms.MATMULS and forms.MATMULS[name] == (1, 2):
        yield args[0]


def _opened(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function of torch written in Python that leaves its parts to the mode, not itself."""
    assert isinstance(function, FunctionType)
    never = {name: lambda *_: False for name in function.__globals__ if "has_torch_f" in name}
    opened = FunctionType(
        function.__code__,
        {**function.__globals__, **never},
        function.__name__,
        function.__defaults__,
        function.__closure__,
    )
    opened.__kwdefaults__ = function.__kwdefaults__
    return opened


_OPENED_ATTENTION = _opened(F.multi_head_attention_forward)
