"""Tensors ⇄ `.sqz` bytes: chooses a codec for each stream, and checks what it wrote by decoding it.

`squeeze.container` knows the file's layout; this module knows what its streams mean.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from squeeze import codecs, container
from squeeze.calib.floats import WORDS
from squeeze.calib.quantized import QuantizedTensor, RawTensor
from squeeze.codecs.base import Codec
from squeeze.container import Container, StreamRecord, TensorRecord
from squeeze.errors import CorruptData, SqueezeError
from squeeze.files import read_file, write_atomic

Tensor = RawTensor | QuantizedTensor
Symbols = npt.NDArray[Any]  # integers
CodeStreams = dict[str, tuple[int, bytes]]  # (codec id, bytes) of each tensor's codes
OnStream = Callable[[int, int], None]  # (streams done, streams in all)
Candidates = (
    Sequence[str] | Mapping[str, Sequence[str]]
)  # codec names, or those of each stream kind

# Codecs tried by default on each kind of stream; the others never won on real checkpoints (docs/log.md).
CANDIDATES: dict[str, Sequence[str]] = {
    "codes": ("context", "range-histogram"),
    "raw": ("context-words", "range-planes"),
    "step": ("context-words", "range-planes"),
    "column": ("context", "range-histogram"),
}


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


def _symbols(stream: StreamRecord, tensors: Sequence[Tensor]) -> Symbols:
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


def _with_trellis(name: str, record: TensorRecord) -> str | Codec:
    """The context coder codes trellis indices best when it knows the states they lead to."""
    if name != "context" or record.kind != "trellis":
        return name
    from squeeze.codecs.context import Context  # compiled, so only when needed

    return Context(n_states=record.states)


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
        symbols = _symbols(stream, tensors)
        digest.update(np.ascontiguousarray(symbols, symbols.dtype.newbyteorder("<")).data)
    return digest.digest()


def encode(
    artifact: Artifact,
    *,
    candidates: Candidates | None = None,
    on_stream: OnStream | None = None,
    streams_: CodeStreams | None = None,
) -> bytes:
    """The bytes of a `.sqz` file.

    candidates: codec names tried on every stream, smallest kept; or those for each kind of stream,
    "raw.fp32" going before "raw" (None: CANDIDATES). Streams are encoded on all cores; the bytes do
    not depend on how many. streams_: code streams by tensor name that are known already; those that
    are not are added.
    """
    tensors = list(artifact.tensors.values())
    records = [record_of(name, tensor) for name, tensor in artifact.tensors.items()]
    container.check_names([record.name for record in records])
    streams = container.derive_streams(records)

    def work(stream: StreamRecord) -> tuple[int, bytes]:
        name = records[stream.members[0]].name
        if stream.kind == "codes" and streams_ is not None and name in streams_:
            return streams_[name]
        names = _names_for(stream.kind, candidates or CANDIDATES)
        tried = [_with_trellis(name, records[stream.members[0]]) for name in names]
        encoded = codecs.encode_smallest(_symbols(stream, tensors), tried)
        if stream.kind == "codes" and streams_ is not None:
            streams_[name] = encoded.wire_id, encoded.data
        return encoded.wire_id, encoded.data

    encoded = _in_order(work, streams, on_stream)
    content = container.content_fields(artifact.config, records)
    return container.assemble(content, encoded, content_digest(artifact))


def _names_for(kind: str, candidates: Candidates) -> Sequence[str]:
    if isinstance(candidates, Mapping):
        return candidates.get(kind) or candidates[kind.split(".")[0]]
    return candidates


def decode(data: bytes, *, on_stream: OnStream | None = None) -> Artifact:
    """Decode a `.sqz` file; the inverse of `encode`.

    Raises CorruptData naming the stream when a stream does not decode, or when the decoded content
    is not what was packed.
    """
    parsed = container.parse(data)
    views = list(container.stream_bytes(data, parsed))

    def work(index: int) -> Symbols:
        stream = parsed.streams[index]
        shape, dtype = layout(stream, parsed.tensors)
        try:
            codec = codecs.by_wire_id(stream.codec_id)
            return codec.decode(bytes(views[index]), shape, dtype)
        except SqueezeError as error:
            names = [parsed.tensors[i].name for i in stream.members]
            raise type(error)(f"stream {index} ({stream.kind} of {names[0]}…): {error}") from None

    symbols = _in_order(work, range(len(parsed.streams)), on_stream)
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


def _in_order(
    work: Callable[[Any], Any], items: Sequence[Any], on_done: OnStream | None
) -> list[Any]:
    """Run `work` over items on all cores; results in item order."""
    results = []
    with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
        for done, result in enumerate(pool.map(work, items), start=1):
            results.append(result)
            if on_done is not None:
                on_done(done, len(items))
    return results


def save(
    artifact: Artifact,
    path: str | os.PathLike[str],
    *,
    candidates: Candidates | None = None,
    on_stream: OnStream | None = None,
) -> Container:
    """Encode, decode what was encoded and compare, then write atomically."""
    data = encode(artifact, candidates=candidates, on_stream=on_stream)
    decode(data)  # compares the content digest
    write_atomic(path, data)
    return container.parse(data)


def load(path: str | os.PathLike[str], *, on_stream: OnStream | None = None) -> Artifact:
    """Read and decode a `.sqz` file."""
    return decode(read_file(path), on_stream=on_stream)
