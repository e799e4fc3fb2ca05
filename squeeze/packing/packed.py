"""A packed model: the bytes of its file, their cost and their ledger."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from squeeze.artifact.file import decode
from squeeze.files import read_file, write_atomic
from squeeze.ledger.attribute import attribute_paths
from squeeze.ledger.table import Ledger
from squeeze.packing.measured import Cost
from squeeze.packing.plan import Plan

NAME = Path("unsaved/model.sqz")  # path of the artifact in a ledger while it has no file


@dataclass(frozen=True)
class Correction:
    """Price of low-rank corrections that were left out.

    tensors: names of the matrices they would correct
    bytes: what they would add to the file
    saved: nats per token that they would save
    """

    tensors: tuple[str, ...]
    bytes: int
    saved: float


@dataclass(frozen=True)
class Packed:
    """A packed model.

    data: bytes of the `.sqz` artifact
    exact: true when it holds every tensor bit for bit
    plan: bits, bytes and cost of every tensor, of a model packed to a limit with loss
    correction: what is left out of `record-1855` and `record-1908`
    notes: sentences for the user on how the model was read and packed
    code: files and folders that ship beside the artifact
    """

    data: bytes
    exact: bool = False
    plan: Plan | None = None
    correction: Correction | None = None
    notes: tuple[str, ...] = ()
    code: tuple[str | os.PathLike[str], ...] = ()

    @property
    def cost(self) -> Cost | None:
        """Cost of packing; None where the preset measures none."""
        if self.plan is not None:
            return self.plan.cost
        return Cost(0.0, 0.0) if self.exact else None

    @property
    def ledger(self) -> Ledger:
        """Ledger of the artifact, as `model.sqz`, and of the code beside it."""
        return attribute_paths([NAME, *self.code], self._read)

    def _read(self, path: Path) -> bytes:
        return self.data if path == NAME else read_file(path)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the artifact, whole or not at all. Raises SqueezeError when it cannot be written."""
        write_atomic(path, self.data)


def checked(packed: Packed) -> Packed:
    """Return `packed` unless its bytes decode to other content, which raises CorruptData."""
    decode(packed.data)  # compares the content digest
    return packed
