"""Quantized tensors of a pack, kept in a folder under hashes of everything they depend on.

An interrupted pack resumes: a file under the right key is used, any other is made again. Every file
is written whole or not at all, and checked when it is read.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from squeeze.artifact import container
from squeeze.artifact.file import CANDIDATES, decode, encode
from squeeze.artifact.streams import Artifact, CodeStreams
from squeeze.errors import SqueezeError
from squeeze.files import hash_of, held, make_folder, read_file, remove_files, write_atomic
from squeeze.packing.quantizer import StoredMatrix
from squeeze.reporter import SILENT, Reporter
from squeeze.tensors.quantized import QuantizedTensor

# Word contexts save floats half a per cent of byte planes, at 20 times the time; where a limit is met
# by dropping mantissa bits that is no gain at all.
QUICK = {**CANDIDATES, "raw.fp32": ("range-planes",)}


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold a folder for one process; the lock goes with the process, however it ends.

    Raises SqueezeError when another process holds it or it cannot be written.
    """
    make_folder(folder)
    with held(folder / "lock", "pack"):
        yield


class KeptCodes:
    """Quantized matrices by name, scale and number of states, each in a `.sqz` file of its own.

    folder: of the files; None keeps nothing
    key: hash of everything that all of them depend on
    reporter: gets a note for each damaged file
    """

    def __init__(self, folder: Path | None, key: str = "", reporter: Reporter = SILENT) -> None:
        self.folder, self.key, self.reporter = folder, key, reporter
        if folder is not None:
            make_folder(folder)

    def find(self, name: str, scale: float, states: int) -> StoredMatrix | None:
        """Return the kept matrix, or None; a damaged file counts as none, with a note."""
        key = self._key(name, scale, states)
        path = self._path(key)
        if path is None or not os.path.isfile(path):
            return None
        try:
            data = read_file(path)
            artifact = decode(data)
            tensor = artifact.tensors[name]
            parsed = container.parse(data)
            if artifact.config != {"key": key} or not isinstance(tensor, QuantizedTensor):
                raise SqueezeError("of another key")
        except (SqueezeError, KeyError) as error:
            self.reporter.note(f"{path} is made again: {error}")
            return None
        pairs = zip(parsed.streams, container.stream_bytes(data, parsed), strict=True)
        (codes,) = ((s.codec_id, bytes(view)) for s, view in pairs if s.kind == "codes")
        return StoredMatrix(tensor, codes)

    def code(self, name: str, scale: float, states: int, tensor: QuantizedTensor) -> StoredMatrix:
        """Return a matrix of the same values with its codes coded, and keep both."""
        tensor = with_idle_steps(tensor)
        key = self._key(name, scale, states)
        coded: CodeStreams = {}
        data = encode(Artifact({"key": key}, {name: tensor}), streams_=coded)
        path = self._path(key)
        if path is not None:
            write_atomic(path, data)
        return StoredMatrix(tensor, coded[name])

    def file(self, artifact: Artifact, codes: CodeStreams, floats: bool) -> bytes:
        """Return the whole file; see `squeeze.packing.quantizer.Coder`."""
        candidates = QUICK if floats else CANDIDATES
        return encode(artifact, candidates=candidates, streams_=codes)

    def keep_only(self, settings: Iterable[tuple[str, float, int]]) -> None:
        """Remove every file but those of these names, scales and numbers of states."""
        if self.folder is None:
            return
        wanted_paths = {self._path(self._key(*setting)) for setting in settings}
        remove_files(path for path in self.folder.glob("*.sqz") if path not in wanted_paths)

    def _key(self, name: str, scale: float, states: int) -> str:
        return hash_of(self.key, name, float(scale).hex(), states)

    def _path(self, key: str) -> Path | None:
        return None if self.folder is None else self.folder / f"{key[:32]}.sqz"


def with_idle_steps(tensor: QuantizedTensor) -> QuantizedTensor:
    """Return the same values in fewer bytes: rows of zeros, right with any step, have the commonest."""
    # a weight of zero has the index zero, but not the other way round: most matrices need no decoding
    if tensor.codes.any(1).all():
        return tensor
    idle = ~tensor.dequantize().reshape(tensor.codes.shape).any(1)
    if not idle.any():
        return tensor
    values, counts = np.unique(tensor.steps, return_counts=True)
    steps = np.where(idle, values[counts.argmax()], tensor.steps).astype(tensor.steps.dtype)
    return replace(tensor, steps=steps)


def forget(folder: Path) -> None:
    """Remove the plan, all kept codes and what was tuned in earlier runs."""
    for pattern in ("plan.json", "updates.json", "seconds.json", "tuned*", "codes/*"):
        remove_files(folder.glob(pattern))
