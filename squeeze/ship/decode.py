"""Decoder for a script that ships it: a bundle takes in what decodes, and no more.

The whole file format in one function, without the checks of the readers that everything else uses, and
with the decoders of the codecs that `squeeze pack` chooses from: their registry finds modules by name,
where no bundle can follow. Sections are those of docs/format.md. `squeeze.load_into` does the same where
squeeze is installed.
"""

from __future__ import annotations

import json
import lzma
import math
import os
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import torch

from squeeze.codecs.context.codec import decode_matrix
from squeeze.codecs.context.words import decode_words
from squeeze.codecs.histogram import decode_histogram, decode_planes
from squeeze.codecs.trellis.quantize import dequantize_trellis
from squeeze.errors import CorruptData, UnsupportedFormat
from squeeze.tensors.quantized import column_factors

DECODERS = {33: decode_histogram, 34: decode_planes, 48: decode_matrix, 49: decode_words}
FILTERS = [{"id": lzma.FILTER_LZMA1, "dict_size": 1 << 16, "lc": 2, "lp": 0, "pb": 0}]
FLOATS = (torch.float32, torch.float16, torch.bfloat16)
PROLOGUE = 22


def load_into(module: torch.nn.Module, path: str | os.PathLike[str]) -> None:
    """Copy the tensors of an artifact into a module; RuntimeError unless names and shapes agree."""
    module.load_state_dict(load(path))


def load(path: str | os.PathLike[str]) -> dict[str, torch.Tensor]:
    """Return the tensors of an artifact by name on the CPU, as `squeeze.load` does.

    The digest of the content is not computed: `squeeze eval` and `squeeze audit` do that. Raises
    CorruptData for a damaged file, UnsupportedFormat for one that `squeeze pack` did not write.
    """
    data = Path(path).read_bytes()
    # §1: prologue
    if zlib.crc32(data[14:], zlib.crc32(data[:10])) != int.from_bytes(data[10:14], "little"):
        raise CorruptData(f"{path}: not a .sqz file, or damaged")
    start = PROLOGUE + int.from_bytes(data[6:10], "little")
    header, at = lzma.decompress(data[PROLOGUE:start], lzma.FORMAT_RAW, filters=FILTERS), 0

    def take(size: int) -> bytes:
        nonlocal at
        at += size
        return header[at - size : at]

    def number() -> int:
        value = shift = 0
        while True:
            byte = take(1)[0]
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value

    # §3 and §4: header; kinds are 0 for floats, 1 for codes, 2 for trellis indices
    config, count = json.loads(take(number())), number()
    names = take(number()).decode().split("\n")
    kinds, stored, logical, dims = (take(count) for _ in range(4))
    shapes = [[number() for _ in range(n)] for n in dims]
    sizes = [math.prod(shape) for shape in shapes]
    rows = [math.prod(shape[:1]) for shape in shapes]
    widths = [math.prod(shape[1:]) for shape in shapes]
    coded = [i for i in range(count) if kinds[i]]
    words, columns = (dict(zip(coded, take(len(coded)), strict=True)) for _ in range(2))
    trellis = [i for i in coded if kinds[i] == 2]
    states = dict(zip(trellis, take(len(trellis)), strict=True))

    # §5: streams, each of several tensors but for the codes; a tensor's parts come in this order
    streams: list[tuple[list[int], list[int], str]] = [
        ([i for i in range(count) if kinds[i] == 0 and stored[i] == f], sizes, f"u{4 >> (f > 0)}")
        for f in range(3)
    ]
    streams += [([i for i in coded if stored[i] == f], rows, f"u{4 >> (f > 0)}") for f in range(3)]
    streams.append(([i for i in coded if columns[i]], widths, "i1"))
    streams += [([i], sizes, f"i{1 + words[i]}") for i in coded]
    streams = [stream for stream in streams if stream[0]]
    parts: list[list[Any]] = [[] for _ in names]
    for at_stream, codec in enumerate(take(len(streams))):
        members, counts, dtype = streams[at_stream]
        size, lengths = number(), [counts[i] for i in members]
        shape: tuple[int, ...] = (sum(lengths),)
        if at_stream >= len(streams) - len(coded):
            shape = (rows[members[0]], widths[members[0]])
        values = _decode(codec, data[start : start + size], shape, np.dtype(dtype))
        start += size
        for i, part in zip(members, np.split(values.ravel(), np.cumsum(lengths)[:-1]), strict=True):
            parts[i].append(part)

    tensors = {}
    for i, name in enumerate(names[:count]):
        values = parts[i][0]
        floats = torch.from_numpy(values.view(f"i{values.itemsize}")).view(FLOATS[stored[i]])
        if kinds[i]:
            codes = parts[i][-1].reshape(rows[i], widths[i])
            if kinds[i] == 2:
                codes = dequantize_trellis(codes, 1 << states[i])
            floats = torch.from_numpy(codes).float() * floats.float()[:, None]
            if columns[i]:
                floats *= torch.from_numpy(column_factors(parts[i][1]))
        tensors[name] = floats.reshape(shapes[i]).to(FLOATS[logical[i]])
    # §3: tensors in parts, and those of two names
    for name, (shape, slices) in config.get("parts", {}).items():
        matrices = [tensors.pop(f"{name}[{i}]") for i in range(len(slices))]
        tensors[name] = torch.empty(shape, dtype=matrices[0].dtype)
        for matrix, (offset, *axes) in zip(matrices, slices, strict=True):
            lengths, strides = ([axis[k] for axis in axes[0] + axes[1]] for k in (0, 1))
            tensors[name].as_strided(lengths, strides, offset).copy_(matrix.reshape(lengths))
    for name, other in config.get("tied", {}).items():
        tensors[name] = tensors[other]
    return tensors


def _decode(codec: int, data: bytes, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Any:
    if not math.prod(shape):
        return np.zeros(shape, dtype)
    if codec not in DECODERS:
        raise UnsupportedFormat("a codec that is not shipped", found=codec)
    return DECODERS[codec](data, shape, dtype)
