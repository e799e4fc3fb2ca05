"""Tensors ⇄ `.sqz` bytes: chooses a codec for each stream, and decodes every file before it is written.

`squeeze.artifact.streams` has the meaning of the streams, `squeeze.artifact.container` the layout of
the file's bytes.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from math import prod

from squeeze import codecs
from squeeze.artifact.container import Container, parse
from squeeze.artifact.header import MAX_ELEMENTS
from squeeze.artifact.layout import StreamRecord, TensorRecord
from squeeze.artifact.roles import roles_of_file
from squeeze.artifact.streams import (
    Artifact,
    Coded,
    CodeStreams,
    Symbols,
    decode_with,
    encode_with,
)
from squeeze.codecs.base import Codec
from squeeze.errors import CorruptData
from squeeze.files import of_file, read_file, write_atomic
from squeeze.reporter import SILENT, Reporter

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
    streams_: CodeStreams | None = None,
    reporter: Reporter = SILENT,
) -> bytes:
    """Return the bytes of a `.sqz` file, which do not depend on the number of cores.

    candidates: codec names tried on every stream, of which the smallest result is stored; or the names
        for each kind of stream, "raw.fp32" going before "raw" (None: CANDIDATES)
    streams_: code streams by tensor name that are coded already; the others are added
    reporter: counts streams
    """
    chosen = candidates or CANDIDATES

    def code(stream: StreamRecord, record: TensorRecord, symbols: Symbols) -> Coded:
        tried = [_with_trellis(name, record) for name in _names_for(stream.kind, chosen)]
        encoded = codecs.encode_smallest(symbols, tried)
        return encoded.wire_id, encoded.data

    return encode_with(artifact, code, streams_, reporter)


def _names_for(kind: str, candidates: Candidates) -> Sequence[str]:
    if isinstance(candidates, Mapping):
        return candidates.get(kind) or candidates[kind.split(".")[0]]
    return candidates


def _with_trellis(name: str, record: TensorRecord) -> str | Codec:
    # The context coder codes trellis indices best with the states they lead to as context.
    if name != "context" or record.kind != "trellis":
        return name
    from squeeze.codecs.context.codec import Context  # compiled, so only when needed

    return Context(n_states=record.states)


def decode(data: bytes) -> Artifact:
    """Decode the bytes of a `.sqz` file; the inverse of `encode`.

    Raises CorruptData naming the stream when a stream does not decode, when the decoded content is not
    what was packed, or when the header says what no file can mean.
    """
    _check_meaning(parse(data))
    return decode_with(data, codecs.by_wire_id)


def save(
    artifact: Artifact,
    path: str | os.PathLike[str],
    *,
    candidates: Candidates | None = None,
) -> Container:
    """Write a `.sqz` file atomically, once its bytes decode to the artifact, and return its header.

    Raises CorruptData when a codec does not decode to its input, SqueezeError when the file cannot be
    written.
    """
    data = encode(artifact, candidates=candidates)
    decode(data)  # compares the content digest
    write_atomic(path, data)
    return parse(data)


def _check_meaning(container: Container) -> None:
    """Raise CorruptData for fields of another kind and empty tensors of unbounded sides (§3)."""
    for field in ("model", "subject"):
        value = container.config.get(field, {})
        if not isinstance(value, dict):
            raise CorruptData(f"{field} in the header is not an object", found=type(value).__name__)
    roles_of_file(container.config, [tensor.name for tensor in container.tensors])
    for tensor in container.tensors:
        if prod(max(side, 1) for side in tensor.shape) > MAX_ELEMENTS:
            raise CorruptData(
                f"tensor {tensor.name[:80]} is too large",
                expected=f"sides whose product, but for 0, is ≤ {MAX_ELEMENTS}",
                found="×".join(map(str, tensor.shape)),
            )


def load(path: str | os.PathLike[str]) -> Artifact:
    """Read and decode a `.sqz` file. Raises SqueezeError when it is missing or malformed."""
    return decode_file(path, read_file(path))


def decode_file(path: str | os.PathLike[str], data: bytes) -> Artifact:
    """Decode the bytes of the `.sqz` file at `path`, which errors name. Raises as `decode`."""
    with of_file(path):
        return decode(data)
