"""Records of what a `.sqz` file holds: its tensors and its streams. Spec: docs/format.md, §4 and §5.

Streams have names for their meaning here (codes, steps, raw floats); `squeeze.artifact.streams` has
their contents. Standard library only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

FLOATS = ("fp32", "fp16", "bf16")  # ids are positions (§4)
KINDS = ("raw", "uniform", "trellis")
CODE_BITS = (8, 16)


@dataclass(frozen=True)
class TensorRecord:
    """One tensor as the header describes it (§4).

    kind: "raw" (bit patterns of `stored` floats), "uniform" (integer codes × step of the row) or
        "trellis" (indices of a trellis quantizer with `states` states)
    stored: float format of the raw values or of the row steps
    logical: float format that the values are rounded to on decoding
    code_bits: 8 or 16, width of a code in memory; 0 for raw
    columns: true when a step exponent per column is stored beside the row steps
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
    """One stream (§5).

    members: indexes of the tensors whose symbols it holds, in order
    counts: symbols that each member contributes
    size, offset: bytes in the file; 0 as long as it is not coded
    """

    kind: str
    members: tuple[int, ...]
    counts: tuple[int, ...]
    codec_id: int = 0
    size: int = 0
    offset: int = 0


def derive_streams(tensors: Sequence[TensorRecord]) -> list[StreamRecord]:
    """Return the streams of a file with these tensors, in file order (§5); none is stored.

    Raw values and row steps of one float format share a stream over all tensors, because a stream of
    a few hundred symbols costs more in coder overhead than it saves; codes have one stream a tensor,
    so that all cores work on them.
    """
    streams = []

    def share(kind: str, members: list[int], counts: list[int]) -> None:
        if members:
            streams.append(StreamRecord(kind, tuple(members), tuple(counts)))

    quantized = [i for i, t in enumerate(tensors) if t.kind != "raw"]
    for number in FLOATS:
        raw = [i for i, t in enumerate(tensors) if t.kind == "raw" and t.stored == number]
        share(f"raw.{number}", raw, [tensors[i].elements for i in raw])
    for number in FLOATS:
        steps = [i for i in quantized if tensors[i].stored == number]
        share(f"step.{number}", steps, [tensors[i].matrix[0] for i in steps])
    columns = [i for i in quantized if tensors[i].columns]
    share("column", columns, [tensors[i].matrix[1] for i in columns])
    for i in quantized:
        share("codes", [i], [tensors[i].elements])
    return streams
