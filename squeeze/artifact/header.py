"""The header of a `.sqz` file. Spec: docs/format.md, §3.

`content_fields` and `encode_header` write the fields that `decode_header` reads, in one order. Standard
library only, so that `squeeze budget` starts at once.
"""

from __future__ import annotations

import json
import lzma
from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import prod
from typing import TypeVar

from squeeze.artifact.layout import (
    CODE_BITS,
    FLOATS,
    KINDS,
    StreamRecord,
    TensorRecord,
    derive_streams,
)
from squeeze.codecs.coder import varint
from squeeze.errors import CorruptData

MAX_PLAIN = 1 << 23  # bytes of the header once inflated
MAX_TENSORS = 1 << 16
MAX_ELEMENTS = 1 << 28  # of all tensors together: bounds every allocation a reader makes
MAX_NDIM = 8
MAX_LOG_STATES = 16
MAX_NAME = 255  # bytes of UTF-8
MAX_STREAM = 1 << 40  # bytes
_FILTER = [{"id": lzma.FILTER_LZMA1, "dict_size": 1 << 16, "lc": 2, "lp": 0, "pb": 0}]

Option = TypeVar("Option")
Fields = tuple[dict[str, object], tuple[TensorRecord, ...], tuple[StreamRecord, ...]]


# --- writing ---


def content_fields(config: Mapping[str, object], tensors: Sequence[TensorRecord]) -> bytes:
    """Return the header's fields that describe the content; those of its coding follow them.

    Raises CorruptData for a configuration that is no JSON.
    """
    text = canonical_json(config)
    names = "\n".join(t.name for t in tensors).encode()
    quantized = [t for t in tensors if t.kind != "raw"]
    return b"".join(
        [
            varint.write(len(text)),
            text,
            varint.write(len(tensors)),
            varint.write(len(names)),
            names,
            bytes(KINDS.index(t.kind) for t in tensors),
            bytes(FLOATS.index(t.stored) for t in tensors),
            bytes(FLOATS.index(t.logical) for t in tensors),
            bytes(len(t.shape) for t in tensors),
            b"".join(varint.write(d) for t in tensors for d in t.shape),
            bytes(CODE_BITS.index(t.code_bits) for t in quantized),
            bytes(t.columns for t in quantized),
            bytes(t.states.bit_length() - 1 for t in quantized if t.kind == "trellis"),
        ]
    )


def encode_header(content: bytes, coding: Sequence[tuple[int, int]]) -> bytes:
    """Return the compressed header.

    content: fields of `content_fields`
    coding: (codec id, size in bytes) of each stream, in order
    """
    ids = bytes(codec_id for codec_id, _ in coding)
    sizes = b"".join(varint.write(size) for _, size in coding)
    return lzma.compress(content + ids + sizes, format=lzma.FORMAT_RAW, filters=_FILTER)


def canonical_json(config: Mapping[str, object]) -> bytes:
    """Return the one spelling of a configuration that a file may hold. Raises CorruptData."""
    try:
        text = json.dumps(config, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        return text.encode()
    except (ValueError, RecursionError) as error:
        raise CorruptData(f"config in the header is not JSON: {error}") from None


def check_names(names: Sequence[str]) -> None:
    """Raise CorruptData with the first name that is not unique, printable, 1…255 bytes of UTF-8."""
    earlier: set[str] = set()
    for name in names:
        if not name.isprintable() or not 0 < len(name.encode()) <= MAX_NAME:
            raise CorruptData(
                "bad tensor name", expected=f"1…{MAX_NAME} printable bytes", found=repr(name[:80])
            )
        if name in earlier:
            raise CorruptData("a tensor name occurs twice", found=name)
        earlier.add(name)


# --- reading ---


class HeaderReader:
    """Fields of an inflated header, taken in order; every error names the field."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.position = 0

    def take(self, size: int, field: str) -> bytes:
        """Return the next `size` bytes. Raises CorruptData."""
        end = self.position + size
        if end > len(self.data):
            raise CorruptData(
                f"header ends inside {field}",
                expected=f"{size} bytes",
                found=len(self.data) - self.position,
            )
        chunk = self.data[self.position : end]
        self.position = end
        return chunk

    def varint(self, field: str, limit: int) -> int:
        """Return the next varint, at most `limit`. Raises CorruptData."""
        value, self.position = varint.read(self.data, self.position, field, "header")
        if value > limit:
            raise CorruptData(
                f"header field {field} is too large", expected=f"≤ {limit}", found=value
            )
        return value

    def choice(self, field: str, options: Sequence[Option]) -> Option:
        """Return the option that the next byte is the position of. Raises CorruptData."""
        value = self.take(1, field)[0]
        if value >= len(options):
            raise CorruptData(
                f"header field {field} has an unknown value",
                expected=f"0…{len(options) - 1}",
                found=value,
            )
        return options[value]

    def finish(self) -> None:
        """Raise CorruptData unless every byte was taken."""
        if self.position != len(self.data):
            raise CorruptData(
                "header has bytes after its last field", found=len(self.data) - self.position
            )


def decode_header(header: bytes, offset: int) -> Fields:
    """Return the configuration, tensors and streams of a compressed header.

    offset: of the first stream, in bytes from the file's start

    Raises CorruptData, one message a cause.
    """
    reader = HeaderReader(inflate_header(header))
    config = _read_config(reader.take(reader.varint("config size", MAX_PLAIN), "config"))
    count = reader.varint("tensor count", MAX_TENSORS)
    names = _read_names(reader.take(reader.varint("names size", MAX_PLAIN), "names"), count)
    kinds = [reader.choice("kind", KINDS) for _ in range(count)]
    stored = [reader.choice("stored format", FLOATS) for _ in range(count)]
    logical = [reader.choice("logical format", FLOATS) for _ in range(count)]
    ndims = [reader.choice("number of dimensions", range(MAX_NDIM + 1)) for _ in range(count)]
    shapes = _read_shapes(reader, ndims)
    quantized = [i for i in range(count) if kinds[i] != "raw"]
    code_bits = {i: reader.choice("code width", CODE_BITS) for i in quantized}
    columns = {i: reader.choice("column steps", (False, True)) for i in quantized}
    trellis = [i for i in quantized if kinds[i] == "trellis"]
    states = {i: 1 << reader.choice("trellis states", range(MAX_LOG_STATES + 1)) for i in trellis}
    tensors = tuple(
        TensorRecord(
            name=names[i],
            shape=shapes[i],
            kind=kinds[i],
            stored=stored[i],
            logical=logical[i],
            code_bits=code_bits.get(i, 0),
            states=states.get(i, 0),
            columns=columns.get(i, False),
        )
        for i in range(count)
    )
    streams = _locate(reader, derive_streams(tensors), offset)
    reader.finish()
    return config, tensors, streams


def inflate_header(header: bytes) -> bytes:
    """Return the plain bytes of a compressed header. Raises CorruptData."""
    decoder = lzma.LZMADecompressor(format=lzma.FORMAT_RAW, filters=_FILTER)
    try:
        plain = decoder.decompress(header, max_length=MAX_PLAIN)
    except lzma.LZMAError as error:
        raise CorruptData(f"header does not decompress: {error}") from None
    if not decoder.eof or decoder.unused_data:
        raise CorruptData(
            "header does not end with its compressed stream, or inflates past the cap",
            expected=f"≤ {MAX_PLAIN} bytes",
            found=len(plain),
        )
    return plain


def _read_config(text: bytes) -> dict[str, object]:
    try:
        config = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise CorruptData(f"config in the header is not JSON: {error}") from None
    if not isinstance(config, dict):
        raise CorruptData("config in the header is not an object", found=type(config).__name__)
    if canonical_json(config) != text:
        raise CorruptData(
            "config in the header is not in its canonical form (sorted keys, no spaces)"
        )
    return config


def _read_names(joined: bytes, count: int) -> list[str]:
    try:
        names = joined.decode().split("\n") if count else []
    except UnicodeDecodeError:
        raise CorruptData("tensor names are not UTF-8") from None
    if len(names) != count or (not count and joined):
        raise CorruptData("number of names differs", expected=count, found=len(names))
    check_names(names)
    return names


def _read_shapes(reader: HeaderReader, ndims: Sequence[int]) -> list[tuple[int, ...]]:
    shapes = []
    total = 0
    for ndim in ndims:
        shape = tuple(reader.varint("dimension", MAX_ELEMENTS) for _ in range(ndim))
        total += prod(shape)
        if total > MAX_ELEMENTS:
            raise CorruptData(
                "tensors are too large together", expected=f"≤ {MAX_ELEMENTS} elements", found=total
            )
        shapes.append(shape)
    return shapes


def _locate(
    reader: HeaderReader, streams: Sequence[StreamRecord], offset: int
) -> tuple[StreamRecord, ...]:
    ids = reader.take(len(streams), "codec ids")
    located = []
    for stream, codec_id in zip(streams, ids, strict=True):
        size = reader.varint("stream size", MAX_STREAM)
        located.append(replace(stream, codec_id=codec_id, size=size, offset=offset))
        offset += size
    return tuple(located)
