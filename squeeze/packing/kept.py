"""Stages of a pack, kept in a folder under hashes of everything they depend on.

A killed pack goes on where it was: what is found under its key is used, anything else is made again.
Every file is written whole or not at all, and checked when read.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from squeeze.artifact import container
from squeeze.artifact.file import CANDIDATES, decode, encode
from squeeze.artifact.streams import Artifact, CodeStreams
from squeeze.errors import SqueezeError
from squeeze.files import held, make_folder, read_file, write_atomic
from squeeze.packing.quantizer import StoredMatrix
from squeeze.tensors.quantized import QuantizedTensor

OnNote = Callable[[str], None]
# Word contexts save floats half a per cent of byte planes, at 20 times the time; where a limit is met
# by dropping mantissa bits that is no gain at all.
QUICK = {**CANDIDATES, "raw.fp32": ("range-planes",)}
# whatever decides what is quantized and coded
PACKAGES = (
    "squeeze.tensors",
    "squeeze.artifact",
    "squeeze.packing",
    "squeeze.calib",
    "squeeze.codecs",
)


def silent(note: str) -> None:
    """Drops a note."""


def hash_of(*facts: Any) -> str:
    """Hex SHA-256 of JSON values."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def code_key() -> str:
    """Hash of the sources that decide what is quantized and coded: other code, other results."""
    state = hashlib.sha256()
    for package in PACKAGES:
        root = Path(str(importlib.import_module(package).__file__)).parent
        for file in sorted(root.rglob("*.py")):
            state.update(f"{package}/{file.relative_to(root).as_posix()}\0".encode())
            state.update(hashlib.sha256(file.read_bytes()).digest())
    return state.hexdigest()


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold a folder for one process; the lock goes with the process, however it ends.

    Raises SqueezeError when another process holds it or it cannot be written.
    """
    make_folder(folder)
    with held(folder / "lock", "pack"):
        yield


class KeptCodes:
    """Quantized tensors by name, scale and number of states; each is kept as a `.sqz` of its own.

    folder: None keeps nothing. key: hash of what all of them depend on. on_note hears of damage.
    """

    def __init__(self, folder: Path | None, key: str = "", on_note: OnNote = silent) -> None:
        self.folder, self.key, self.on_note = folder, key, on_note
        if folder is not None:
            make_folder(folder)

    def find(self, name: str, scale: float, states: int) -> StoredMatrix | None:
        """Return the matrix that was kept, or None; a damaged file counts as none, with a note."""
        path, key = self._place(name, scale, states)
        if path is None or not path.is_file():
            return None
        try:
            data = read_file(path)
            kept = decode(data)
            tensor = kept.tensors[name]
            parsed = container.parse(data)
            if kept.config != {"key": key} or not isinstance(tensor, QuantizedTensor):
                raise SqueezeError("of another key")
        except (SqueezeError, KeyError) as error:
            self.on_note(f"{path} is made again: {error}")
            return None
        pairs = zip(parsed.streams, container.stream_bytes(data, parsed), strict=True)
        (codes,) = ((s.codec_id, bytes(view)) for s, view in pairs if s.kind == "codes")
        return StoredMatrix(tensor, codes)

    def code(self, name: str, scale: float, states: int, tensor: QuantizedTensor) -> StoredMatrix:
        """Code a tensor, keep it, and return it with its coded codes."""
        path, key = self._place(name, scale, states)
        coded: CodeStreams = {}
        data = encode(Artifact({"key": key}, {name: tensor}), streams_=coded)
        if path is not None:
            write_atomic(path, data)
        return StoredMatrix(tensor, coded[name])

    def file(self, whole: Artifact, known: CodeStreams, floats: bool) -> bytes:
        """The bytes of a whole file. known: codes; floats: whether matrices are stored as floats."""
        candidates = QUICK if floats else CANDIDATES
        return encode(whole, candidates=candidates, streams_=known)

    def keep_only(self, places: Iterable[tuple[str, float, int]]) -> None:
        """Remove every file but those of these names, scales and states."""
        if self.folder is None:
            return
        kept = {self._place(*place)[0] for place in places}
        for path in self.folder.glob("*"):
            if path not in kept:
                path.unlink(missing_ok=True)

    def _place(self, name: str, scale: float, states: int) -> tuple[Path | None, str]:
        key = hash_of(self.key, name, float(scale).hex(), states)
        return (None if self.folder is None else self.folder / f"{key[:32]}.sqz"), key
