"""Decoder for a script that ships it: a bundle takes in what decodes, and no more.

The registry of codecs finds its modules by name, where no bundle can follow. Here stand the decoders
of the codecs that `squeeze pack` chooses from. `squeeze.load_into` does the same where squeeze is
installed.
"""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any

import numpy as np
import torch

from squeeze.artifact.container import parse, stream_bytes
from squeeze.artifact.parts import whole_tensors
from squeeze.artifact.streams import Artifact, Symbols, rebuild, symbols_layout
from squeeze.codecs.context.codec import decode_matrix
from squeeze.codecs.context.words import decode_words
from squeeze.codecs.histogram import decode_histogram, decode_planes
from squeeze.errors import UnsupportedFormat

DECODERS = {33: decode_histogram, 34: decode_planes, 48: decode_matrix, 49: decode_words}


def load(path: str | os.PathLike[str]) -> dict[str, torch.Tensor]:
    """Return the tensors of an artifact by name, float32 on the CPU, as they are scored.

    The digest of the content is not computed: `squeeze eval` and `squeeze audit` do that. Raises
    CorruptData for a damaged file, UnsupportedFormat for one that `squeeze pack` did not write.
    """
    data = Path(path).read_bytes()
    parsed = parse(data)
    symbols = []
    for stream, payload in zip(parsed.streams, stream_bytes(data, parsed), strict=True):
        shape, dtype = symbols_layout(stream, parsed.tensors)
        symbols.append(_decode(stream.codec_id, bytes(payload), shape, dtype))
    tensors = whole_tensors(Artifact(dict(parsed.config), rebuild(parsed, symbols)))
    return {name: torch.tensor(tensor.dequantize()) for name, tensor in tensors.items()}


def load_into(module: torch.nn.Module, path: str | os.PathLike[str]) -> None:
    """Copy the tensors of an artifact into a module; RuntimeError unless names and shapes agree."""
    module.load_state_dict(load(path))


def _decode(codec: int, data: bytes, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Symbols:
    if not math.prod(shape):
        return np.zeros(shape, dtype)
    if codec not in DECODERS:
        raise UnsupportedFormat("a codec that is not shipped", found=codec)
    return DECODERS[codec](data, shape, dtype)
