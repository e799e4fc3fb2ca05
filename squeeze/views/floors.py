"""Files decoded for the ledger: entropies of their streams, and their sizes as artifacts of ours.

Order-0 entropy is the least that a coder without contexts could reach. Decoding takes seconds and loads
numpy and numba; the plain ledger does not.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from squeeze.artifact.container import MAGIC
from squeeze.artifact.file import decode
from squeeze.ledger.files import Paths, Read, files_of
from squeeze.outside import registry
from squeeze.outside.tensors import squeezed
from squeeze.tensors.quantized import QuantizedTensor

Words = npt.NDArray[np.unsignedinteger[Any]]
Floors = dict[tuple[str, str, str], float]  # (file, tensor, stream) -> bytes


def floors_of(paths: Paths, read: Read) -> Floors:
    """Return the floors of all files that can be decoded. read: gives a file's bytes."""
    every: Floors = {}
    for name, path in files_of(paths):
        data = read(path)
        if data[: len(MAGIC)] == MAGIC:
            every |= floors(name, data)
        elif (outside := registry.read(name, data, with_floors=True)) is not None:
            every |= outside.floors
    return every


def squeezed_sizes(paths: Paths, read: Read) -> dict[str, int]:
    """Return the bytes that files of others would have as artifacts of the same numbers, by name."""
    sizes = {}
    for name, path in files_of(paths):
        outside = registry.read(name, read(path))
        if outside is not None and outside.plain is not None:
            sizes[name] = squeezed(outside.plain)
    return sizes


def floors(file: str, data: bytes) -> Floors:
    """Return the order-0 entropy of every stream of an artifact; of words, byte plane by plane.

    Words of several tensors share a stream: each tensor has its share of that stream's floor.
    """
    by_stream: Floors = {}
    shared: dict[str, dict[str, Words]] = {}
    for name, tensor in decode(data).tensors.items():
        if isinstance(tensor, QuantizedTensor):
            by_stream[file, name, "codes"] = entropy(tensor.codes)
            if tensor.columns is not None:
                by_stream[file, name, "column"] = entropy(tensor.columns)
            shared.setdefault(f"step.{tensor.step_format}", {})[name] = tensor.steps
        else:
            shared.setdefault(f"raw.{tensor.stored}", {})[name] = tensor.bits
    for kind, members in shared.items():
        every = np.concatenate([words.reshape(-1) for words in members.values()])
        floor = planes(every)
        for name, words in members.items():
            by_stream[file, name, kind] = floor * words.size / max(every.size, 1)
    return by_stream


def entropy(symbols: npt.NDArray[np.integer[Any]]) -> float:
    """Return the order-0 entropy of integers in bytes."""
    _, counts = np.unique(symbols, return_counts=True)
    shares = counts / max(symbols.size, 1)
    return float(-(counts * np.log2(shares)).sum() / 8)


def planes(words: Words) -> float:
    """Return the sum of the order-0 entropies of the byte planes of words, in bytes."""
    octets = np.ascontiguousarray(words).reshape(-1).view(np.uint8)
    width = words.dtype.itemsize
    return sum(entropy(octets[plane::width]) for plane in range(width))
