"""Tensors ⇄ `.sqz` bytes: chooses a codec for each stream, and checks what it wrote by decoding it.

`squeeze.artifact.streams` knows what the streams mean, `squeeze.artifact.container` the file's bytes.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

from squeeze import codecs
from squeeze.artifact.container import Container, parse
from squeeze.artifact.layout import StreamRecord, TensorRecord
from squeeze.artifact.streams import (
    Artifact,
    Coded,
    CodeStreams,
    OnStream,
    Symbols,
    decode_with,
    encode_with,
)
from squeeze.codecs.base import Codec
from squeeze.files import read_file, write_atomic

# Codec names, or those of each stream kind.
Candidates = Sequence[str] | Mapping[str, Sequence[str]]

# Codecs tried by default on each kind of stream; the others never won on real checkpoints (docs/log.md).
CANDIDATES: dict[str, Sequence[str]] = {
    "codes": ("context", "range-histogram"),
    "raw": ("context-words", "range-planes"),
    "step": ("context-words", "range-planes"),
    "column": ("context", "range-histogram"),
}


def encode(
    artifact: Artifact,
    *,
    candidates: Candidates | None = None,
    on_stream: OnStream | None = None,
    streams_: CodeStreams | None = None,
) -> bytes:
    """Return the bytes of a `.sqz` file.

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

    return encode_with(artifact, code, streams_, on_stream)


def _names_for(kind: str, candidates: Candidates) -> Sequence[str]:
    if isinstance(candidates, Mapping):
        return candidates.get(kind) or candidates[kind.split(".")[0]]
    return candidates


def _with_trellis(name: str, record: TensorRecord) -> str | Codec:
    # The context coder codes trellis indices best when it knows the states they lead to.
    if name != "context" or record.kind != "trellis":
        return name
    from squeeze.codecs.context.codec import Context  # compiled, so only when needed

    return Context(n_states=record.states)


def decode(data: bytes, *, on_stream: OnStream | None = None) -> Artifact:
    """Decode a `.sqz` file; the inverse of `encode`.

    Raises CorruptData naming the stream when a stream does not decode, or when the decoded content
    is not what was packed.
    """
    return decode_with(data, codecs.by_wire_id, on_stream)


def save(
    artifact: Artifact,
    path: str | os.PathLike[str],
    *,
    candidates: Candidates | None = None,
    on_stream: OnStream | None = None,
) -> Container:
    """Encode, decode what was encoded and compare, then write atomically.

    Returns the header of the file written. Raises CorruptData when a codec does not give back what it
    was given, SqueezeError when the file cannot be written.
    """
    data = encode(artifact, candidates=candidates, on_stream=on_stream)
    decode(data)  # compares the content digest
    write_atomic(path, data)
    return parse(data)


def load(path: str | os.PathLike[str], *, on_stream: OnStream | None = None) -> Artifact:
    """Read and decode a `.sqz` file. Raises SqueezeError when it is missing or malformed."""
    return decode(read_file(path), on_stream=on_stream)
