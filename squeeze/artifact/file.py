"""Tensors ⇄ `.sqz` bytes: chooses a codec for each stream, and checks what it wrote by decoding it.

`squeeze.artifact.streams` knows what the streams mean, `squeeze.artifact.container` the file's layout.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

from squeeze import codecs
from squeeze.artifact import container, streams
from squeeze.artifact.container import Container, StreamRecord, TensorRecord
from squeeze.artifact.streams import (
    Artifact,
    Coded,
    CodeStreams,
    OnStream,
    Symbols,
    Tensor,
    content_digest,
    layout,
    record_of,
)
from squeeze.codecs.base import Codec
from squeeze.files import read_file, write_atomic

__all__ = [
    "CANDIDATES",
    "Artifact",
    "CodeStreams",
    "OnStream",
    "Tensor",
    "content_digest",
    "decode",
    "encode",
    "layout",
    "load",
    "record_of",
    "save",
]

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


def _with_trellis(name: str, record: TensorRecord) -> str | Codec:
    """The context coder codes trellis indices best when it knows the states they lead to."""
    if name != "context" or record.kind != "trellis":
        return name
    from squeeze.codecs.context.codec import Context  # compiled, so only when needed

    return Context(n_states=record.states)


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
    chosen = candidates or CANDIDATES

    def code(stream: StreamRecord, record: TensorRecord, symbols: Symbols) -> Coded:
        tried = [_with_trellis(name, record) for name in _names_for(stream.kind, chosen)]
        encoded = codecs.encode_smallest(symbols, tried)
        return encoded.wire_id, encoded.data

    return streams.write(artifact, code, streams_, on_stream)


def _names_for(kind: str, candidates: Candidates) -> Sequence[str]:
    if isinstance(candidates, Mapping):
        return candidates.get(kind) or candidates[kind.split(".")[0]]
    return candidates


def decode(data: bytes, *, on_stream: OnStream | None = None) -> Artifact:
    """Decode a `.sqz` file; the inverse of `encode`.

    Raises CorruptData naming the stream when a stream does not decode, or when the decoded content
    is not what was packed.
    """
    return streams.read(data, codecs.by_wire_id, on_stream)


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
