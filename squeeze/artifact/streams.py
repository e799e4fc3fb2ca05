"""Tensors ⇄ `.sqz` bytes, whatever codecs the streams are coded with.

`squeeze.artifact.container` knows the file's layout; this module knows what its streams mean;
`squeeze.artifact.file` chooses the codecs.
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

from squeeze.artifact import container
from squeeze.artifact.container import Container, StreamRecord, TensorRecord
from squeeze.codecs.base import Codec
from squeeze.errors import CorruptData, SqueezeError
from squeeze.tensors.floats import WORDS
from squeeze.tensors.quantized import QuantizedTensor, RawTensor

Tensor = RawTensor | QuantizedTensor
Symbols = npt.NDArray[Any]  # integers
Coded = tuple[int, bytes]  # (codec id, bytes) of a stream
CodeStreams = dict[str, Coded]  # of each tensor's codes
OnStream = Callable[[int, int], None]  # (streams done, streams in all)
Code = Callable[[StreamRecord, TensorRecord, Symbols], Coded]  # the record of its first tensor


@dataclass(frozen=True)
class Artifact:
    """What a `.sqz` holds: the model configuration and its tensors by name."""

    config: dict[str, Any]
    tensors: dict[str, Tensor]


def record_of(name: str, tensor: Tensor) -> TensorRecord:
    """The header's description of a tensor."""
    if isinstance(tensor, RawTensor):
        return TensorRecord(name, tensor.shape, "raw", tensor.stored, tensor.logical)
    return TensorRecord(
        name,
        tensor.shape,
        tensor.quantizer,
        tensor.step_format,
        tensor.logical,
        tensor.codes.dtype.itemsize * 8,
        tensor.states,
        tensor.columns is not None,
    )


def symbols_of(stream: StreamRecord, tensors: Sequence[Tensor]) -> Symbols:
    """The integers a stream holds (§5): 2-D for codes, 1-D over all its members otherwise."""
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


def layout(
    stream: StreamRecord, records: Sequence[TensorRecord]
) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """Shape and dtype of a stream's symbols."""
    if stream.kind == "codes":
        record = records[stream.members[0]]
        return record.matrix, np.dtype(f"i{record.code_bits // 8}")
    if stream.kind == "column":
        return (sum(stream.counts),), np.dtype(np.int8)
    return (sum(stream.counts),), WORDS[stream.kind.split(".")[1]]


def content_digest(artifact: Artifact) -> bytes:
    """Eight bytes of BLAKE2b over the content fields and all integers, before any coding (§6)."""
    tensors = list(artifact.tensors.values())
    records = [record_of(name, tensor) for name, tensor in artifact.tensors.items()]
    digest = hashlib.blake2b(digest_size=container.DIGEST_SIZE)
    digest.update(container.content_fields(artifact.config, records))
    for stream in container.derive_streams(records):
        symbols = symbols_of(stream, tensors)
        digest.update(np.ascontiguousarray(symbols, symbols.dtype.newbyteorder("<")).data)
    return digest.digest()


def write(
    artifact: Artifact,
    code: Code,
    known: CodeStreams | None = None,
    on_stream: OnStream | None = None,
) -> bytes:
    """The bytes of a `.sqz` file whose streams `code` makes, on all cores.

    known: code streams by tensor name that need not be made again; those made are added.
    """
    tensors = list(artifact.tensors.values())
    records = [record_of(name, tensor) for name, tensor in artifact.tensors.items()]
    container.check_names([record.name for record in records])
    known = {} if known is None else known

    def work(stream: StreamRecord) -> Coded:
        first = records[stream.members[0]]
        if stream.kind == "codes" and first.name in known:
            return known[first.name]
        coded = code(stream, first, symbols_of(stream, tensors))
        if stream.kind == "codes":
            known[first.name] = coded
        return coded

    streams = in_order(work, container.derive_streams(records), on_stream)
    content = container.content_fields(artifact.config, records)
    return container.assemble(content, streams, content_digest(artifact))


def read(
    data: bytes, codec_of: Callable[[int], Codec], on_stream: OnStream | None = None
) -> Artifact:
    """Decode a `.sqz` file, the inverse of `write`. codec_of: the codec of a number.

    Raises CorruptData naming the stream when a stream does not decode, or when the decoded content
    is not what was packed.
    """
    parsed = container.parse(data)
    views = list(container.stream_bytes(data, parsed))

    def work(index: int) -> Symbols:
        stream = parsed.streams[index]
        shape, dtype = layout(stream, parsed.tensors)
        try:
            return codec_of(stream.codec_id).decode(bytes(views[index]), shape, dtype)
        except SqueezeError as error:
            names = [parsed.tensors[i].name for i in stream.members]
            raise type(error)(f"stream {index} ({stream.kind} of {names[0]}…): {error}") from None

    symbols = in_order(work, range(len(parsed.streams)), on_stream)
    artifact = Artifact(dict(parsed.config), _rebuild(parsed, symbols))
    found = content_digest(artifact)
    if found != parsed.digest:
        raise CorruptData(
            "decoded content is not what was packed",
            expected=f"digest {parsed.digest.hex()}",
            found=found.hex(),
            fix="The file was changed, or its decoder differs from the packer's.",
        )
    return artifact


def _rebuild(parsed: Container, symbols: Sequence[Symbols]) -> dict[str, Tensor]:
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
    work: Callable[[Any], Any], items: Sequence[Any], on_done: OnStream | None = None
) -> list[Any]:
    """Run `work` over items on all cores; results in item order."""
    results = []
    with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
        for done, result in enumerate(pool.map(work, items), start=1):
            results.append(result)
            if on_done is not None:
                on_done(done, len(items))
    return results
