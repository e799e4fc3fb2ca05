"""Named arrays that one stage keeps for the next, in a file that says what they belong to."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from squeeze.errors import CorruptData
from squeeze.files.writing import write_atomic

Array = npt.NDArray[Any]

META = "squeeze.arrays"


def write_arrays(
    path: Path, arrays: Mapping[str, Array], key: str, facts: Mapping[str, Any]
) -> None:
    """Write named arrays, the key they belong to and some JSON facts, atomically.

    A file of safetensors, whose facts hold a digest of the arrays, too.
    """
    arrays = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    text = json.dumps({"key": key, "sha256": digest_of(arrays), **facts}, sort_keys=True)
    write_atomic(path, save(arrays, metadata={META: text}))


class OtherKey(CorruptData):
    """A file of named arrays that is whole, but of other weights, text or settings."""


def read_arrays(path: Path, key: str) -> tuple[dict[str, Array], dict[str, Any]]:
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
        raise CorruptData(f"{path}: not a file of named arrays: {error}") from None
    if not isinstance(facts, dict) or facts.get("key") != key:
        raise OtherKey(f"{path}: of other weights, text or settings")
    if facts.get("sha256") != digest_of(arrays):
        raise CorruptData(f"{path}: damaged: its arrays are not those that were written")
    return arrays, facts


def key_in(path: Path) -> str | None:
    """Return the key of a file of `write_arrays`; None where it cannot be read or has none."""
    try:
        with safe_open(path, "numpy") as file:
            return str(json.loads(file.metadata()[META])["key"])
    except (SafetensorError, OSError, ValueError, KeyError, TypeError, RecursionError):
        return None


def digest_of(arrays: Mapping[str, Array]) -> str:
    """Return the SHA-256 (hex) of names, types, shapes and contents, in the order of the names."""
    state = hashlib.sha256()
    for name in sorted(arrays):
        state.update(repr((name, arrays[name].dtype.str, arrays[name].shape)).encode())
        state.update(arrays[name].tobytes())
    return state.hexdigest()
