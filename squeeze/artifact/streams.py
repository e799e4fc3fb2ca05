"""Tensors ⇄ `.sqz` bytes, whatever codecs the streams are coded with. Spec: docs/format.md, §5 and §6.

Here the streams get their meaning; `squeeze.artifact.container` has the layout of the file's bytes,
`squeeze.artifact.file` the choice of codecs.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from squeeze.artifact.container import DIGEST_SIZE, Container, assemble, parse, stream_bytes
from squeeze.artifact.header import check_names, content_fields
from squeeze.artifact.layout import StreamRecord, TensorRecord, derive_streams
from squeeze.codecs.base import Codec
from squeeze.errors import CorruptData
from squeeze.reporter import SILENT, Reporter
from squeeze.tensors.floats import WORDS
from squeeze.tensors.quantized import QuantizedTensor, RawTensor

Tensor = RawTensor | QuantizedTensor
Symbols = npt.NDArray[Any]  # integers
Coded = tuple[int, bytes]  # (codec id, bytes) of a stream
CodeStreams = dict[str, Coded]  # of each tensor's codes
Code = Callable[[StreamRecord, TensorRecord, Symbols], Coded]  # the record of its first tensor


@dataclass(frozen=True)
class Artifact:
    """Contents of a `.sqz` file: the model configuration and its tensors by name."""

    config: dict[str, Any]
    tensors: dict[str, Tensor]


def record_of(name: str, tensor: Tensor) -> TensorRecord:
    """Return the header's description of a tensor."""
    if isinstance(tensor, RawTensor):
        return TensorRecord(
            name=name, shape=tensor.shape, stored=tensor.stored, logical=tensor.logical
        )
    return TensorRecord(
        name=name,
        shape=tensor.shape,
        kind=tensor.quantizer,
        stored=tensor.step_format,
        logical=tensor.logical,
        code_bits=tensor.codes.dtype.itemsize * 8,
        states=tensor.states,
        columns=tensor.columns is not None,
    )


def symbols_of(stream: StreamRecord, tensors: Sequence[Tensor]) -> Symbols:
    """Return the integers of a stream (§5): 2-D for codes, else 1-D over all its members."""
    members = [tensors[i] for i in stream.members]
    if stream.kind == "codes":
        (tensor,) = members
        assert isinstance(tensor, QuantizedTensor)
        return np.ascontiguousarray(tensor.codes)
    parts: list[Symbols] = []
    for tensor in members:
        if isinstance(tensor, RawTensor):
            parts.append(tensor.bits.reshape(-1))
        elif stream.kind == "column":
            assert tensor.columns is not None
            parts.append(tensor.columns)
        else:
            parts.append(tensor.steps)
    return np.concatenate(parts)


def symbols_layout(
    stream: StreamRecord, records: Sequence[TensorRecord]
) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """Return the shape and dtype of a stream's symbols."""
    if stream.kind == "codes":
        record = records[stream.members[0]]
        return record.matrix, np.dtype(f"i{record.code_bits // 8}")
    if stream.kind == "column":
        return (sum(stream.counts),), np.dtype(np.int8)
    return (sum(stream.counts),), WORDS[stream.kind.split(".")[1]]


def content_digest(artifact: Artifact) -> bytes:
    """Return eight bytes of BLAKE2b over the content fields and all integers, before any coding (§6)."""
    tensors = list(artifact.tensors.values())
    records = [record_of(name, tensor) for name, tensor in artifact.tensors.items()]
    digest = hashlib.blake2b(digest_size=DIGEST_SIZE)
    digest.update(content_fields(artifact.config, records))
    for stream in derive_streams(records):
        symbols = symbols_of(stream, tensors)
        digest.update(np.ascontiguousarray(symbols, symbols.dtype.newbyteorder("<")).data)
    return digest.digest()


def encode_with(
    artifact: Artifact,
    code: Code,
    codes_: CodeStreams | None = None,
    reporter: Reporter = SILENT,
) -> bytes:
    """Return the bytes of a `.sqz` file whose streams `code` codes, on all cores.

    codes_: code streams by tensor name that are not coded again; those that are coded are added
    reporter: counts streams
    """
    tensors = list(artifact.tensors.values())
    records = [record_of(name, tensor) for name, tensor in artifact.tensors.items()]
    check_names([record.name for record in records])
    codes = {} if codes_ is None else codes_

    def work(stream: StreamRecord) -> Coded:
        first = records[stream.members[0]]
        if stream.kind == "codes" and first.name in codes:
            return codes[first.name]
        coded = code(stream, first, symbols_of(stream, tensors))
        if stream.kind == "codes":
            codes[first.name] = coded
        return coded

    layout = derive_streams(records)
    with reporter.stage("coding streams", len(layout), "streams") as stage:
        streams = in_order(work, layout, stage)
    content = content_fields(artifact.config, records)
    return assemble(content, streams, content_digest(artifact))


def decode_with(data: bytes, codec_of: Callable[[int], Codec]) -> Artifact:
    """Decode a `.sqz` file, the inverse of `encode_with`.

    codec_of: returns the codec of an id

    Raises CorruptData naming the stream when a stream does not decode, or when the decoded content
    is not what was packed.
    """
    parsed = parse(data)
    views = list(stream_bytes(data, parsed))

    def work(index: int) -> Symbols:
        stream = parsed.streams[index]
        shape, dtype = symbols_layout(stream, parsed.tensors)
        try:
            return codec_of(stream.codec_id).decode(bytes(views[index]), shape, dtype)
        except CorruptData as error:
            names = [parsed.tensors[i].name for i in stream.members]
            raise CorruptData(f"stream {index} ({stream.kind} of {names[0]}…): {error}") from None

    symbols = in_order(work, range(len(parsed.streams)))
    artifact = Artifact(dict(parsed.config), rebuild(parsed, symbols))
    digest = content_digest(artifact)
    if digest != parsed.digest:
        raise CorruptData(
            "decoded content is not what was packed",
            expected=f"digest {parsed.digest.hex()}",
            found=digest.hex(),
            fix="The file was changed, or its decoder differs from the packer's.",
        )
    return artifact


def rebuild(parsed: Container, symbols: Sequence[Symbols]) -> dict[str, Tensor]:
    """Cut the decoded streams into each tensor's parts."""
    parts: list[dict[str, Symbols]] = [{} for _ in parsed.tensors]
    for stream, values in zip(parsed.streams, symbols, strict=True):
        pieces = np.split(values.reshape(-1), np.cumsum(stream.counts)[:-1])
        for member, piece in zip(stream.members, pieces, strict=True):
            parts[member][stream.kind.split(".")[0]] = piece
    tensors: dict[str, Tensor] = {}
    for record, part in zip(parsed.tensors, parts, strict=True):
        if record.kind == "raw":
            tensors[record.name] = RawTensor(
                part["raw"].reshape(record.shape), record.stored, record.logical
            )
        else:
            tensors[record.name] = QuantizedTensor(
                codes=part["codes"].reshape(record.matrix),
                steps=part["step"],
                shape=record.shape,
                quantizer=record.kind,
                step_format=record.stored,
                logical=record.logical,
                states=record.states,
                columns=part.get("column"),
            )
    return tensors


def in_order(
    work: Callable[[Any], Any], items: Sequence[Any], stage: Reporter = SILENT
) -> list[Any]:
    """Return the results of `work` over items, in their order, computed on all cores.

    stage: counts items
    """
    results = []
    with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
        for result in pool.map(work, items):
            results.append(result)
            stage.advance()
    return results
