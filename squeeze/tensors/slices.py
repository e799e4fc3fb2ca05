"""Parts of a tensor of the weights unit, and other shapes of it: every number keeps its bits."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from squeeze.tensors.quantized import QuantizedTensor, RawTensor

Tensor = RawTensor | QuantizedTensor


def entry_of(tensor: Tensor, at: int) -> Tensor:
    """Return one entry along the first dimension of a tensor, bit by bit."""
    if not isinstance(tensor, QuantizedTensor):
        return replace(tensor, bits=np.ascontiguousarray(tensor.bits[at]))
    shape = tensor.shape[1:]
    rows = shape[0] if len(shape) > 1 else 1
    steps = np.repeat(tensor.steps[at : at + 1], rows)
    return replace(tensor, codes=tensor.codes[at].reshape(rows, -1), steps=steps, shape=shape)


def first_rows(tensor: Tensor, count: int) -> Tensor:
    """Return the first rows of a tensor, bit by bit."""
    if not isinstance(tensor, QuantizedTensor):
        return replace(tensor, bits=tensor.bits[:count])
    shape = (count, *tensor.shape[1:])
    return replace(tensor, codes=tensor.codes[:count], steps=tensor.steps[:count], shape=shape)


def reshaped(tensor: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Return a tensor with the same numbers in another shape."""
    if isinstance(tensor, QuantizedTensor):
        return replace(tensor, shape=shape)
    return replace(tensor, bits=tensor.bits.reshape(shape))
