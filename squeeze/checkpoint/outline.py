"""Facts in the header of a checkpoint or artifact, for installations without numpy and torch.

No value is decoded and no configuration is inferred from shapes: `squeeze.checkpoint.inspect` does both.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from math import prod
from typing import Any

from squeeze.artifact import container
from squeeze.artifact.facts import assumed_notes, assumed_of
from squeeze.artifact.roles import roles_of_file
from squeeze.errors import BadCheckpoint
from squeeze.files import of_file, read_file, sha256
from squeeze.outside import registry
from squeeze.outside.result import Outside
from squeeze.train.metadata import CONFIG_KEY, read_metadata

NOTE = "numpy is not installed: values and inferred settings are left out"


@dataclass(frozen=True)
class TensorOutline:
    """A tensor as a header describes it. shape: None where no header says it."""

    tensor: str
    role: str
    shape: tuple[int, ...] | None
    elements: int
    storage: str


@dataclass(frozen=True)
class Outline:
    """Facts from the header of a file. config: what it says of a model of ours, None for others."""

    path: str
    format: str
    bytes: int
    sha256: str
    parameters: int
    config: dict[str, Any] | None
    notes: tuple[str, ...]
    tensors: tuple[TensorOutline, ...]

    def as_json(self) -> dict[str, Any]:
        """Return the object that `squeeze inspect --json` prints without numpy."""
        return asdict(self)


def outline(path: str | os.PathLike[str]) -> Outline:
    """Return what the header of a file says. Raises BadCheckpoint for a file without tensors."""
    data, name = read_file(path), str(path)
    notes: list[str] = []
    if data[: len(container.MAGIC)] == container.MAGIC:
        with of_file(path):
            parsed = container.parse(data)
            roles = roles_of_file(parsed.config, [record.name for record in parsed.tensors])
        model = parsed.config.get("model")
        config = model if isinstance(model, dict) and model else None
        notes += assumed_notes(assumed_of(parsed.config))
        file_format = "sqz"
        tensors = [
            TensorOutline(record.name, roles[record.name], record.shape, record.elements, storage)
            for record in parsed.tensors
            for storage in [record.stored if record.kind == "raw" else record.kind]
        ]
    else:
        outside = registry.read(name, data)
        if outside is None or not any(row.component == "weights" for row in outside.rows):
            raise BadCheckpoint(f"{name}: no weights", expected="a checkpoint or a .sqz artifact")
        text = read_metadata(path).get(CONFIG_KEY)
        config = None if text is None else json.loads(text)
        file_format = outside.format
        notes += outside.notes
        tensors = list(_tensors(outside))
    return Outline(
        path=name,
        format=file_format,
        bytes=len(data),
        sha256=sha256(data),
        parameters=sum(tensor.elements for tensor in tensors),
        config=config,
        notes=(*notes, NOTE),
        tensors=tuple(tensors),
    )


def _tensors(outside: Outside) -> Iterator[TensorOutline]:
    """Yield the tensors of a foreign file: their codes or values, without steps and scales."""
    shapes: dict[tuple[str, str], tuple[int, ...] | None] = {}
    if outside.plain is not None:
        shapes = {(piece.tensor, piece.kind): piece.shape for piece in outside.plain.pieces}
    for row in outside.rows:
        if row.component == "weights" and (row.kind == "codes" or "raw." in row.kind):
            shape = shapes.get((row.tensor, row.kind))
            if shape is not None and prod(shape) != row.elements:
                shape = None
            storage = row.kind.removeprefix("raw.")
            yield TensorOutline(row.tensor, row.role, shape, row.elements, storage)
