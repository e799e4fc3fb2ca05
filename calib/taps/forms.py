"""The letters of every function that multiplies weights: linear, matmul, einsum, convolution."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from squeeze.calib.taps.products import Letters
from squeeze.calib.taps.weights import Weight

BATCH = "ABCDEFGHIJ"  # letters of the dimensions before the last two, and of an ellipsis
SPACE, KERNEL = "pqr", "uvw"  # of the positions of a convolution and of its kernel
LINEAR, EMBEDDING, EINSUM = "linear", "embedding", "einsum"
SDPA = "scaled_dot_product_attention"
# functions of two tensors that are products, and the places of those two among their arguments
MATMULS = {
    "matmul": (0, 1),
    "__matmul__": (0, 1),
    "__rmatmul__": (1, 0),
    "mm": (0, 1),
    "bmm": (0, 1),
    "mv": (0, 1),
    "addmm": (1, 2),
    "addbmm": (1, 2),
    "baddbmm": (1, 2),
    "addmv": (1, 2),
}
CONVOLUTIONS = {"conv1d": 1, "conv2d": 2, "conv3d": 3}
LINEAR_NAMES = ("input", "weight")
CONVOLUTION_NAMES = ("input", "weight", "bias", "stride", "padding", "dilation", "groups")


def bound(names: tuple[str, ...], args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments of a call by name."""
    return {**dict(zip(names, args, strict=False)), **kwargs}


def operands(name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[Any] | None:
    """Return the two factors of a call of a function by its name, or None when it is no product."""
    if name in MATMULS and len(args) > max(MATMULS[name]):
        return [args[at] for at in MATMULS[name]]
    if name == EINSUM:
        tensors = list(args[1]) if isinstance(args[1], list | tuple) else list(args[1:])
        return tensors if len(tensors) == 2 else None
    if name == LINEAR or name in CONVOLUTIONS:
        values = bound(LINEAR_NAMES, args, kwargs)
        return [values["input"], values["weight"]]
    return None


def letters_of(
    name: str, args: tuple[Any, ...], kwargs: dict[str, Any], dims: tuple[int, int], second: bool
) -> Letters | None:
    """Return the letters of a product, None where it cannot be written with any.

    args, kwargs: of the call of the function `name`
    dims: numbers of dimensions of the two factors
    second: whether the second factor is the weight
    """
    if name == LINEAR:
        batch = BATCH[: dims[0] - 1]
        first, other, result = batch + "k", "nk", batch + "n"
        if not second or dims[1] != 2:
            return None
    elif name == EINSUM:
        written = _einsum(str(args[0]), dims)
        if written is None:
            return None
        first, other, result = written
    else:
        first, other, result = _matmul(*dims)
    return Letters(first, other, result) if second else Letters(other, first, result)


def _matmul(first: int, second: int) -> tuple[str, str, str]:
    """Return the letters of a matmul of tensors of so many dimensions."""
    longest = max(first, second, 2) - 2
    batch = BATCH[:longest]

    def of(dims: int, last: str) -> str:
        return "k" if dims == 1 else batch[longest - dims + 2 :] + last

    result = ("m" if first > 1 else "") + ("n" if second > 1 else "")
    return of(first, "mk"), of(second, "kn"), batch + result


def _einsum(equation: str, dims: tuple[int, int]) -> tuple[str, str, str] | None:
    """Return the letters of an einsum of two tensors, an ellipsis replaced by capitals."""
    left, arrow, result = equation.replace(" ", "").partition("->")
    terms = left.split(",")
    if len(terms) != 2 or (set(left) & set(BATCH) and "..." in left):
        return None
    widths = [dim - len(term.replace("...", "")) for term, dim in zip(terms, dims, strict=True)]
    longest = max(widths)
    if not arrow:
        letters = left.replace("...", "").replace(",", "")
        once = sorted(c for c in set(letters) if letters.count(c) == 1)
        result = ("..." if "..." in left else "") + "".join(once)
    filled = [
        term.replace("...", BATCH[longest - width : longest])
        for term, width in zip(terms, widths, strict=True)
    ]
    if any(len(set(term)) < len(term) for term in filled):
        return None
    return filled[0], filled[1], result.replace("...", BATCH[:longest])


def convolution(
    name: str, args: tuple[Any, ...], kwargs: dict[str, Any], weight: Weight
) -> tuple[Weight, Letters] | None:
    """Return a convolution's weight and letters, as a product with windows of its input.

    The weight [out, in / groups, kernel …] gets a dimension of groups in front, the input one of
    groups and one for each dimension of the kernel. None for padding that is told by a name.
    """
    space, values = CONVOLUTIONS[name], bound(CONVOLUTION_NAMES, args, kwargs)
    stride, padding, dilation = (
        _each(values.get(key, default), space)
        for key, default in (("stride", 1), ("padding", 0), ("dilation", 1))
    )
    groups, kernel = int(values.get("groups", 1)), weight.view.shape[2:]
    if isinstance(values.get("padding", 0), str) or weight.factors:
        return None
    outside = tuple(side for size in reversed(padding) for side in (size, size))

    def windows(x: Tensor) -> Tensor:
        x = F.pad(x, outside).unflatten(-space - 1, (groups, -1))
        for dim in range(space):
            # each window goes to the end, so that the next dimension takes the same place
            size = (kernel[dim] - 1) * dilation[dim] + 1
            x = x.unfold(-space, size, stride[dim])[..., :: dilation[dim]]
        return x

    batched = values["input"].dim() == space + 2
    batch, positions, inside = "A" if batched else "", SPACE[:space], KERNEL[:space]
    letters = Letters(
        f"{batch}gk{positions}{inside}",
        f"gnk{inside}",
        f"{batch}gn{positions}",
        windows,
        lambda y: y.unflatten(-space - 1, (groups, -1)),
    )
    return Weight(weight.tensor, weight.view.unflatten(0, (groups, -1))), letters


def _each(value: Any, count: int) -> tuple[int, ...]:
    if isinstance(value, str):
        return (0,) * count
    return tuple(value) if isinstance(value, tuple | list) else (int(value),) * count


def table_of(
    name: str, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[Tensor, Tensor] | None:
    """Return ids and table of a call that looks rows up, or None when it does not."""
    if name == EMBEDDING:
        values = bound(("input", "weight"), args, kwargs)
        return values["input"], values["weight"]
    if name == "index_select" and len(args) == 3 and args[1] == 0:
        return args[2], args[0]
    if name == "__getitem__":
        at = args[1][0] if isinstance(args[1], tuple) and len(args[1]) == 1 else args[1]
        if isinstance(at, Tensor) and at.dtype in (torch.int64, torch.int32) and at.dim():
            return at, args[0]
    return None
