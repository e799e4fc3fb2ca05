"""Second moments of the inputs of every weight matrix, with which GPTQ and allocation weigh errors.

H = Σ x xᵀ / tokens over all inputs x a matrix sees. A block that runs several times adds all its
passes and is still divided by the tokens, so tr(ΔW H ΔWᵀ) is the squared output error per token and
can be compared between tensors. A matrix with fewer inputs than tokens, an expert's, has their mean:
the gradients of its outputs are divided by all tokens, and so have its share already. (GPTQ's own
convention has a factor 2, which cancels there.)
`squeeze.calib.statistics.collect` collects them.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from squeeze.errors import CorruptData
from squeeze.files import write_atomic

Float32 = npt.NDArray[np.float32]

META = "squeeze.hessians"


@dataclass(frozen=True)
class Hessians:
    """Second moments of inputs by tensor name.

    matrices: float32 [in, in], symmetric, divided by `tokens` or by the inputs, if those are fewer
    tokens: number of calibration tokens
    source: origin of the text

    Tensors that read the same input share one array. A tied embedding appears under its own name, with
    the head's input.
    """

    matrices: dict[str, Float32] = field(repr=False)
    tokens: int
    source: str = ""

    def save(self, path: Path, key: str = "") -> None:
        """Write a safetensors file atomically, with each shared matrix once."""
        owners: dict[int, str] = {}
        shared = {n: owners.setdefault(id(m), n) for n, m in self.matrices.items()}
        facts = {"tokens": self.tokens, "source": self.source, "shared": shared}
        write_arrays(path, {name: self.matrices[name] for name in owners.values()}, key, facts)

    @classmethod
    def load(cls, path: Path, key: str = "") -> Hessians:
        """Read a file of `save`. Raises CorruptData when it is damaged or of another key."""
        arrays, facts = read_arrays(path, key)
        try:
            matrices = {name: arrays[owner] for name, owner in facts["shared"].items()}
            return cls(matrices, int(facts["tokens"]), str(facts["source"]))
        except (KeyError, TypeError, AttributeError, ValueError):
            raise CorruptData(f"{path}: not a file of Hessians") from None


def write_arrays(path: Path, arrays: dict[str, Float32], key: str, facts: dict[str, Any]) -> None:
    """Write named matrices, the key they belong to and some JSON facts, atomically (safetensors)."""
    arrays = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    text = json.dumps({"key": key, "sha256": digest_of(arrays), **facts}, sort_keys=True)
    write_atomic(path, save(arrays, metadata={META: text}))


class OtherKey(CorruptData):
    """A file of named matrices that is whole, but of other weights, text or settings."""


def read_arrays(path: Path, key: str) -> tuple[dict[str, Float32], dict[str, Any]]:
    """Return the arrays and facts of a file of `write_arrays`.

    Raises CorruptData when it is damaged or missing, OtherKey when it is of another key.
    """
    if not os.path.isfile(path):  # a pipe would wait for its writer
        raise CorruptData(f"{path}: no file")
    try:
        with safe_open(path, "numpy") as file:
            facts = json.loads((file.metadata() or {}).get(META, "{}"))
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError, TypeError, RecursionError) as error:
        raise CorruptData(f"{path}: not a file of named matrices: {error}") from None
    if not isinstance(facts, dict) or facts.get("key") != key:
        raise OtherKey(f"{path}: of other weights, text or settings")
    if facts.get("sha256") != digest_of(arrays):
        raise CorruptData(f"{path}: damaged: its arrays are not those that were written")
    return arrays, facts


def key_in(path: Path) -> str | None:
    """Return the key in the facts of a safetensors file; None where it cannot be read or has none."""
    try:
        with safe_open(path, "numpy") as file:
            (text,) = (file.metadata() or {}).values()
        return str(json.loads(text)["key"])
    except (SafetensorError, OSError, ValueError, KeyError, TypeError, RecursionError):
        return None


def digest_of(arrays: Mapping[str, npt.NDArray[Any]]) -> str:
    """Return the SHA-256 (hex) of names, shapes and contents, in the order of the names."""
    state = hashlib.sha256()
    for name in sorted(arrays):
        state.update(repr((name, arrays[name].dtype.str, arrays[name].shape)).encode())
        state.update(arrays[name].tobytes())
    return state.hexdigest()
