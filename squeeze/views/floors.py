"""Order-0 entropy of every stream of an artifact: what a coder without contexts could reach at best.

Decodes the file, so it takes seconds and loads numpy and numba; the plain ledger does not.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from squeeze.artifact.file import decode
from squeeze.tensors.quantized import QuantizedTensor

Words = npt.NDArray[np.unsignedinteger[Any]]


def floors(file: str, data: bytes) -> dict[tuple[str, str, str], float]:
    """(file, tensor, stream) -> bytes of order-0 entropy of its symbols; of words byte plane by plane.

    Words of several tensors share a stream: each tensor has its share of that stream's floor.
    """
    found: dict[tuple[str, str, str], float] = {}
    shared: dict[str, dict[str, Words]] = {}
    for name, tensor in decode(data).tensors.items():
        if isinstance(tensor, QuantizedTensor):
            found[file, name, "codes"] = entropy(tensor.codes)
            if tensor.columns is not None:
                found[file, name, "column"] = entropy(tensor.columns)
            shared.setdefault(f"step.{tensor.step_format}", {})[name] = tensor.steps
        else:
            shared.setdefault(f"raw.{tensor.stored}", {})[name] = tensor.bits
    for kind, members in shared.items():
        every = np.concatenate([words.reshape(-1) for words in members.values()])
        floor = planes(every)
        for name, words in members.items():
            found[file, name, kind] = floor * words.size / max(every.size, 1)
    return found


def entropy(symbols: npt.NDArray[np.integer[Any]]) -> float:
    """Order-0 entropy of integers in bytes."""
    _, counts = np.unique(symbols, return_counts=True)
    shares = counts / max(symbols.size, 1)
    return float(-(counts * np.log2(shares)).sum() / 8)


def planes(words: Words) -> float:
    """Sum of the order-0 entropies of the byte planes of words, in bytes."""
    octets = np.ascontiguousarray(words).reshape(-1).view(np.uint8)
    width = words.dtype.itemsize
    return sum(entropy(octets[plane::width]) for plane in range(width))
