"""A row of the ledger, and how bytes are shared out among several."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Row:
    """Bytes of one purpose: a tensor's part of a stream, a container's header, or a whole file.

    Of code, role is the module, tensor the definition, elements its bytes of source.

    component: weights, container, code, tokenizer, papers or other
    kind: the stream (codes, step.fp16, raw.fp16 …), or "file"
    elements: symbols in those bytes; for codes and raw values, weights
    shared: whether the bytes are this tensor's share, by number of symbols, of a stream that holds
        several tensors
    """

    file: str
    component: str
    kind: str
    bytes: int
    role: str = ""
    layer: int | None = None
    tensor: str = ""
    codec: str = ""
    elements: int = 0
    shared: bool = False


def split_bytes(size: int, counts: Sequence[int]) -> list[int]:
    """Split `size` bytes in proportion to counts, exactly, by largest remainder.

    >>> split_bytes(10, [1, 1, 1])
    [4, 3, 3]
    """
    total = sum(counts)
    if not total:  # only empty members: the first takes the coder's few bytes
        return [size] + [0] * (len(counts) - 1)
    shares = [size * count // total for count in counts]
    by_remainder = sorted(range(len(counts)), key=lambda i: -(size * counts[i] % total))
    for i in by_remainder[: size - sum(shares)]:
        shares[i] += 1
    return shares
