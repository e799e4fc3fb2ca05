"""Codecs of a submission: the context coders named outright, where no registry finds them by name."""

from __future__ import annotations

from squeeze.artifact.layout import StreamRecord, TensorRecord
from squeeze.artifact.streams import Artifact, Coded, CodeStreams, Symbols, encode_with
from squeeze.codecs.base import Codec
from squeeze.codecs.context.codec import Context
from squeeze.codecs.context.words import ContextWords
from squeeze.packing.quantizer import StoredMatrix
from squeeze.tensors.quantized import QuantizedTensor


class Coding:
    """The context coders alone: the choice of all codecs gains under 0.3 % on them (docs/log.md)."""

    words = ContextWords()

    def find(self, name: str, scale: float, states: int) -> None:
        """Return None: no matrix is kept."""

    def code(self, name: str, scale: float, states: int, tensor: QuantizedTensor) -> StoredMatrix:
        """See `squeeze.packing.quantizer.Coder`."""
        coded: CodeStreams = {}
        self.file(Artifact({}, {name: tensor}), coded, False)
        return StoredMatrix(tensor, coded[name])

    def file(self, artifact: Artifact, codes: CodeStreams, floats: bool) -> bytes:
        """See `squeeze.packing.quantizer.Coder`."""
        return encode_with(artifact, self._stream, codes)

    def _stream(self, stream: StreamRecord, record: TensorRecord, symbols: Symbols) -> Coded:
        matrices = stream.kind in ("codes", "column")
        codec = Context(record.states if stream.kind == "codes" else 0) if matrices else self.words
        return codec.wire_id, codec.encode(symbols)

    def codec(self, wire_id: int) -> Codec:
        """Return the codec of a number in a file."""
        return self.words if wire_id == self.words.wire_id else Context()
