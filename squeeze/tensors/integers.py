"""Integers among the tensors of a model: those that it makes itself, beside weights, which are floats.

Transformers keep masks and positions in their files (`attention.bias` of GPT-NeoX, `position_ids` of
BERT), normalizations count their batches. Codes of a quantized export are integers too, and are weights.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from squeeze.tensors.floats import WORDS

DTYPES: dict[str, np.dtype[Any]] = {
    "bool": np.dtype(np.uint8),  # a file may hold any byte
    **{
        name: np.dtype(name)
        for name in ("int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64")
    },
}
MOST = 1 << 16  # numbers of one dimension: a table of a vocabulary, no codes of a matrix
LISTED = 4  # names in a sentence


def is_derived(
    number: str, shape: tuple[int, ...], values: Callable[[np.dtype[Any]], npt.NDArray[Any]]
) -> bool:
    """Return whether a tensor is one that a model makes itself, no weights.

    A single number in no format of weights is a counter.

    number: what its values are, such as "int64"
    values: returns them, given their dtype
    """
    if number in WORDS:
        return False
    return not shape or (number in DTYPES and is_pattern(values(DTYPES[number]).reshape(shape)))


def is_pattern(values: npt.NDArray[Any]) -> bool:
    """Return whether integers of any shape tell no more than one row or one diagonal strip does.

    Counters (no dimension), tables of ids (one), positions (one row, repeated) and masks (constant
    along each diagonal) are such; codes of weights are not.
    """
    if values.ndim < 2 or not values.size:
        return values.size <= MOST
    first = values.reshape(-1, *values.shape[-2:])[:1]
    if min(first.shape[1:]) > 1 and np.array_equal(first[:, 1:, 1:], first[:, :-1, :-1]):
        return bool((values == first[0]).all())
    return values.shape[-1] <= MOST and bool((values == first[0, 0]).all())


def note_on(names: Sequence[str]) -> list[str]:
    """Return the sentence on tensors that are left out as derived; none without names."""
    if not names:
        return []
    more = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
    return [f"left out, being counters, masks or positions: {', '.join(names[:LISTED])}{more}"]
