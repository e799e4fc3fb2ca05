"""The `.sqz` container: header and stream table. Spec: docs/format.md; section numbers cite it.

Standard library only, so that `squeeze budget` and `squeeze inspect` start at once. What the streams
mean (codes, steps, raw floats) is known by names here; their contents are `squeeze.artifact.file`'s.
"""

from __future__ import annotations

import json
import lzma
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod

from squeeze.codecs.coder import varint
from squeeze.errors import CorruptData, UnsupportedFormat

MAGIC = b"SQZ\x1a"
VERSION = 1
PROLOGUE_SIZE = 22
DIGEST_SIZE = 8
MAX_HEADER = 1 << 20  # bytes of the compressed header (§2)
MAX_HEADER_PLAIN = 1 << 23  # bytes of the header once inflated (§3)
MAX_TENSORS = 1 << 16
MAX_ELEMENTS = 1 << 28  # of all tensors together: bounds every allocation a reader makes (§3)
MAX_NDIM = 8
MAX_NAME = 255  # bytes of UTF-8

FLOATS = ("fp32", "fp16", "bf16")  # ids are positions (§4)
KINDS = ("raw", "uniform", "trellis")
CODE_BITS = (8, 16)
_FILTER = [{"id": lzma.FILTER_LZMA1, "dict_size": 1 << 16, "lc": 2, "lp": 0, "pb": 0}]


@dataclass(frozen=True)
class TensorRecord:
    """One tensor as the header describes it (§4).

    kind: "raw" (bit patterns of `stored` floats), "uniform" (integer codes × step of the row) or
    "trellis" (indices of a trellis quantizer with `states` states). stored: the float format of the
    raw values or of the row steps. logical: the float format the values are rounded to on decoding.
    code_bits: 8 or 16, width of a code in memory (0 for raw). columns: whether a step exponent per
    column is stored beside the row steps.
    """

    name: str
    shape: tuple[int, ...]
    kind: str = "raw"
    stored: str = "fp32"
    logical: str = "fp32"
    code_bits: int = 0
    states: int = 0
    columns: bool = False

    @property
    def elements(self) -> int:
        """Number of weights."""
        return prod(self.shape)

    @property
    def matrix(self) -> tuple[int, int]:
        """Rows and columns of the codes: the first dimension, and all others together."""
        return (self.shape[0], prod(self.shape[1:])) if self.shape else (1, 1)


@dataclass(frozen=True)
class StreamRecord:
    """One stream (§5). members: indexes of the tensors whose symbols it holds, in order.

    `counts` gives the symbols each member contributes; offset and size are bytes in the file.
    """

    kind: str
    members: tuple[int, ...]
    counts: tuple[int, ...]
    codec_id: int = 0
    size: int = 0
    offset: int = 0


@dataclass(frozen=True)
class Container:
    """A parsed file: configuration, tensors and streams; `header_size` and `file_size` in bytes."""

    config: dict[str, object]
    tensors: tuple[TensorRecord, ...]
    streams: tuple[StreamRecord, ...]
    digest: bytes
    header_size: int
    file_size: int


def derive_streams(tensors: Sequence[TensorRecord]) -> list[StreamRecord]:
    """The streams a file with these tensors has, in file order (§5): membership is never stored.

    Raw values and row steps of one float format share a stream over all tensors, because a stream of
    a few hundred symbols costs more in coder overhead than it saves; codes have one stream a tensor,
    so that both cores work on them.
    """
    streams = []

    def shared(kind: str, members: list[int], counts: list[int]) -> None:
        if members:
            streams.append(StreamRecord(kind, tuple(members), tuple(counts)))

    quantized = [i for i, t in enumerate(tensors) if t.kind != "raw"]
    for number in FLOATS:
        raw = [i for i, t in enumerate(tensors) if t.kind == "raw" and t.stored == number]
        shared(f"raw.{number}", raw, [tensors[i].elements for i in raw])
    for number in FLOATS:
        steps = [i for i in quantized if tensors[i].stored == number]
        shared(f"step.{number}", steps, [tensors[i].matrix[0] for i in steps])
    columns = [i for i in quantized if tensors[i].columns]
    shared("column", columns, [tensors[i].matrix[1] for i in columns])
    for i in quantized:
        shared("codes", [i], [tensors[i].elements])
    return streams


class HeaderReader:
    """Reads the fields of an inflated header in order; every failure names the field."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.position = 0

    def take(self, size: int, field: str) -> bytes:
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
        value = shift = 0
        while True:
            byte = self.take(1, field)[0]
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                break
            shift += 7
            if shift > 56:
                raise CorruptData(f"header field {field} is longer than 9 bytes")
        if byte == 0 and shift:
            raise CorruptData(f"header field {field} is not in its shortest form")
        if value > limit:
            raise CorruptData(
                f"header field {field} is too large", expected=f"≤ {limit}", found=value
            )
        return value

    def choice(self, field: str, options: Sequence[object]) -> int:
        value = self.take(1, field)[0]
        if value >= len(options):
            raise CorruptData(
                f"header field {field} has an unknown value",
                expected=f"0…{len(options) - 1}",
                found=value,
            )
        return value

    def finish(self) -> None:
        if self.position != len(self.data):
            raise CorruptData(
                "header has bytes after its last field", found=len(self.data) - self.position
            )


# --- writing ---


def canonical_json(config: Mapping[str, object]) -> bytes:
    """The one spelling of a configuration that a file may hold (§3)."""
    return json.dumps(config, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def content_fields(config: Mapping[str, object], tensors: Sequence[TensorRecord]) -> bytes:
    """The header's fields that say what is stored, before those that say how it is coded (§3)."""
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
    """The compressed header (§3). coding: (codec id, stream size in bytes) in stream order."""
    ids = bytes(codec_id for codec_id, _ in coding)
    sizes = b"".join(varint.write(size) for _, size in coding)
    return lzma.compress(content + ids + sizes, format=lzma.FORMAT_RAW, filters=_FILTER)


def assemble(content: bytes, streams: Sequence[tuple[int, bytes]], digest: bytes) -> bytes:
    """The whole file. content: `content_fields`; streams: (codec id, bytes) in file order."""
    header = encode_header(content, [(codec, len(data)) for codec, data in streams])
    if len(header) > MAX_HEADER:
        raise UnsupportedFormat(
            "the header does not fit", expected=f"≤ {MAX_HEADER} bytes", found=len(header)
        )
    fixed = MAGIC + bytes([VERSION, 0]) + len(header).to_bytes(4, "little")
    rest = digest + header + b"".join(data for _, data in streams)
    crc = zlib.crc32(rest, zlib.crc32(fixed))
    return fixed + crc.to_bytes(4, "little") + rest


# --- reading ---


def parse(data: bytes) -> Container:
    """Check a file and read its header; streams are located, not decoded.

    Raises CorruptData or UnsupportedFormat, one message a cause (tests/golden-errors holds one file
    for each).
    """
    if data[:4] != MAGIC:
        raise UnsupportedFormat(
            "not a .sqz file",
            expected=f"magic {MAGIC.hex()}",
            found=data[:4].hex() or "an empty file",
        )
    if len(data) < PROLOGUE_SIZE:
        raise CorruptData(
            "file ends inside its prologue", expected=f"{PROLOGUE_SIZE} bytes", found=len(data)
        )
    if data[4] != VERSION:
        raise UnsupportedFormat(
            "unknown .sqz version", expected=VERSION, found=data[4], fix="Use a newer squeeze."
        )
    if data[5] != 0:
        raise UnsupportedFormat("reserved flags are set", expected=0, found=data[5])
    header_size = int.from_bytes(data[6:10], "little")
    if header_size > MAX_HEADER:
        raise CorruptData(
            "header is too large", expected=f"≤ {MAX_HEADER} bytes", found=header_size
        )
    if PROLOGUE_SIZE + header_size > len(data):
        raise CorruptData(
            "file ends inside its header",
            expected=f"{PROLOGUE_SIZE + header_size} bytes",
            found=len(data),
        )
    crc = zlib.crc32(memoryview(data)[14:], zlib.crc32(data[:10]))
    if crc != int.from_bytes(data[10:14], "little"):
        raise CorruptData(
            "file checksum does not match: the file is truncated or was changed",
            expected=data[10:14][::-1].hex(),
            found=f"{crc:08x}",
            fix="Copy or download it again.",
        )
    plain = _inflate(data[PROLOGUE_SIZE : PROLOGUE_SIZE + header_size])
    config, tensors, streams = _read_fields(plain, PROLOGUE_SIZE + header_size)
    end = streams[-1].offset + streams[-1].size if streams else PROLOGUE_SIZE + header_size
    if end != len(data):
        raise CorruptData(
            "streams do not end where the file ends", expected=f"{end} bytes", found=len(data)
        )
    return Container(config, tensors, streams, bytes(data[14:22]), header_size, len(data))


def _inflate(header: bytes) -> bytes:
    decoder = lzma.LZMADecompressor(format=lzma.FORMAT_RAW, filters=_FILTER)
    try:
        plain = decoder.decompress(header, max_length=MAX_HEADER_PLAIN)
    except lzma.LZMAError as error:
        raise CorruptData(f"header does not decompress: {error}") from None
    if not decoder.eof or decoder.unused_data:
        raise CorruptData(
            "header does not end with its compressed stream, or inflates past the cap",
            expected=f"≤ {MAX_HEADER_PLAIN} bytes",
            found=len(plain),
        )
    return plain


def _read_fields(
    plain: bytes, offset: int
) -> tuple[dict[str, object], tuple[TensorRecord, ...], tuple[StreamRecord, ...]]:
    reader = HeaderReader(plain)
    config = _read_config(reader.take(reader.varint("config size", MAX_HEADER_PLAIN), "config"))
    count = reader.varint("tensor count", MAX_TENSORS)
    names = _read_names(reader.take(reader.varint("names size", MAX_HEADER_PLAIN), "names"), count)
    kinds = [KINDS[reader.choice("kind", KINDS)] for _ in range(count)]
    stored = [FLOATS[reader.choice("stored format", FLOATS)] for _ in range(count)]
    logical = [FLOATS[reader.choice("logical format", FLOATS)] for _ in range(count)]
    ndims = [reader.choice("number of dimensions", range(MAX_NDIM + 1)) for _ in range(count)]
    shapes = _read_shapes(reader, ndims)
    quantized = [i for i in range(count) if kinds[i] != "raw"]
    code_bits = {i: CODE_BITS[reader.choice("code width", CODE_BITS)] for i in quantized}
    columns = {i: bool(reader.choice("column steps", (0, 1))) for i in quantized}
    trellis = [i for i in quantized if kinds[i] == "trellis"]
    states = {i: 1 << reader.choice("trellis states", range(17)) for i in trellis}
    tensors = tuple(
        TensorRecord(
            names[i],
            shapes[i],
            kinds[i],
            stored[i],
            logical[i],
            code_bits.get(i, 0),
            states.get(i, 0),
            columns.get(i, False),
        )
        for i in range(count)
    )
    streams = _locate(reader, derive_streams(tensors), offset)
    reader.finish()
    return config, tensors, streams


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


def check_names(names: Sequence[str]) -> None:
    """Names are unique, printable, 1…255 bytes of UTF-8; raises CorruptData with the first bad one."""
    for name in names:
        if not name.isprintable() or not 0 < len(name.encode()) <= MAX_NAME:
            raise CorruptData(
                "bad tensor name", expected=f"1…{MAX_NAME} printable bytes", found=repr(name[:80])
            )
    if len(set(names)) != len(names):
        double = next(name for name in names if names.count(name) > 1)
        raise CorruptData("a tensor name occurs twice", found=double)


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
    reader: HeaderReader, streams: list[StreamRecord], offset: int
) -> tuple[StreamRecord, ...]:
    ids = reader.take(len(streams), "codec ids")
    located = []
    for stream, codec_id in zip(streams, ids, strict=True):
        size = reader.varint("stream size", 1 << 40)
        located.append(
            StreamRecord(stream.kind, stream.members, stream.counts, codec_id, size, offset)
        )
        offset += size
    return tuple(located)


def stream_bytes(data: bytes, container: Container) -> Iterator[memoryview]:
    """The encoded bytes of each stream, in order, without a copy."""
    view = memoryview(data)
    for stream in container.streams:
        yield view[stream.offset : stream.offset + stream.size]
