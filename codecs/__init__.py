"""Arrays ⇄ bytes: range coder, symbol models, lossless transforms, general compressors.

The registry below is the only way in: codecs load on first use, so importing this package imports
neither numba nor the compression libraries.

>>> import numpy as np
>>> codes = np.array([[0, 1, -1], [0, 0, 2]], np.int8)
>>> best = encode_smallest(codes)
>>> bool((by_wire_id(best.wire_id).decode(best.data, codes.shape, codes.dtype) == codes).all())
True
"""

from __future__ import annotations

import importlib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from squeeze.errors import SqueezeError, UnsupportedFormat

if TYPE_CHECKING:
    from squeeze.codecs.base import Codec, Symbols

# name: (wire id, module, attribute). A wire id, once released, is never given another meaning.
_GENERAL = [
    "raw",
    *(
        compressor + transform
        for compressor in ("zlib", "lzma", "zstd", "brotli")
        for transform in ("", "-planes", "-transposed")
    ),
]
_MODELS = {
    "range-gaussian": (32, "squeeze.codecs.gaussian", "RangeGaussian"),
    "range-histogram": (33, "squeeze.codecs.histogram", "RangeHistogram"),
    "range-planes": (34, "squeeze.codecs.histogram", "RangePlanes"),
    "context": (48, "squeeze.codecs.context.codec", "Context"),
    "context-words": (49, "squeeze.codecs.context.words", "ContextWords"),
}


@cache
def _wire_ids() -> dict[str, int]:
    """Return the wire id of every name."""
    ids = {name: i for i, name in enumerate(_GENERAL, start=1)}
    return ids | {name: wire_id for name, (wire_id, _, _) in _MODELS.items()}


@dataclass(frozen=True)
class Encoded:
    """The smallest encoding of an array, and the codec that made it."""

    name: str
    wire_id: int
    data: bytes


def names() -> tuple[str, ...]:
    """Return every codec name, by rising wire id."""
    return tuple(sorted(_wire_ids(), key=_wire_ids().__getitem__))


@cache
def get(name: str) -> Codec:
    """Return the codec called `name`. Raises UnsupportedFormat for an unknown name."""
    if name not in _wire_ids():
        raise UnsupportedFormat("unknown codec", expected=", ".join(names()), found=name)
    if name in _MODELS:
        _, module, attribute = _MODELS[name]
        codec: Codec = getattr(importlib.import_module(module), attribute)()
    else:
        from squeeze.codecs.general import codecs

        codec = codecs()[_wire_ids()[name] - 1]
    assert (codec.name, codec.wire_id) == (name, _wire_ids()[name])
    return codec


def name_of(wire_id: int) -> str:
    """Return the name of the codec with a file's number; loads nothing. Raises UnsupportedFormat."""
    named = {number: name for name, number in _wire_ids().items()}
    if wire_id not in named:
        raise UnsupportedFormat(
            "unknown codec number", found=wire_id, fix="A newer squeeze may have written this file."
        )
    return named[wire_id]


def by_wire_id(wire_id: int) -> Codec:
    """Return the codec with a file's number. Raises UnsupportedFormat for an unknown number."""
    return get(name_of(wire_id))


def encode_smallest(symbols: Symbols, candidates: Iterable[str | Codec] | None = None) -> Encoded:
    """Encode with every candidate that accepts the array, and return the fewest bytes.

    Each result must decode to the same array, or the candidate is dropped. On a tie the lowest wire
    id wins, so the choice is deterministic.

    symbols: as `Codec.encode` takes them.
    candidates: names, or codecs made with parameters; by default all codecs.

    Raises SqueezeError when no candidate is left.
    """
    chosen = {get(c) if isinstance(c, str) else c for c in candidates or _wire_ids()}
    best: Encoded | None = None
    for codec in sorted(chosen, key=lambda codec: codec.wire_id):
        if symbols.size and not codec.accepts(symbols):
            continue
        data = codec.encode(symbols)
        if best is not None and len(data) >= len(best.data):
            continue
        if (codec.decode(data, symbols.shape, symbols.dtype) == symbols).all():
            best = Encoded(codec.name, codec.wire_id, data)
    if best is None:
        raise SqueezeError(
            "no codec accepts this array", found=f"{symbols.dtype} of shape {symbols.shape}"
        )
    return best
