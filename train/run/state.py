"""The state of a run on disk: all that the next step depends on, in one file, without pickle.

A safetensors file with two metadata keys: `squeeze.run`, a JSON object of the small facts, and
`squeeze.digest`, a SHA-256 of those and of all tensors. A run must not go on from damaged numbers.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from squeeze.errors import BadCheckpoint
from squeeze.files import read_file, write_atomic

RUN_KEY, DIGEST_KEY = "squeeze.run", "squeeze.digest"
VERSION = 2


def save_state(
    path: str | os.PathLike[str], tensors: Mapping[str, Tensor], facts: Mapping[str, Any]
) -> None:
    """Write tensors and facts (JSON values), whole or not at all; raises SqueezeError when it cannot."""
    copies = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    text = json.dumps({"version": VERSION, **facts}, sort_keys=True)
    metadata = {RUN_KEY: text, DIGEST_KEY: _digest(copies, text)}
    write_atomic(path, save(copies, metadata=metadata))


def load_state(path: str | os.PathLike[str]) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return (tensors on the CPU, facts) of `save_state`; raises BadCheckpoint for anything else."""
    if not os.path.exists(path):
        raise BadCheckpoint(
            f"{path}: no state of a run to continue",
            fix="The run ended, or was killed before it saved one: start it without --resume.",
        )
    read_file(path, 0) if not os.path.isfile(path) else None  # the usual errors
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise BadCheckpoint(f"{path}: not the state of a run", found=str(error)[:120]) from None
    text = metadata.get(RUN_KEY)
    if text is None:
        raise BadCheckpoint(
            f"{path}: not the state of a run", expected=f"metadata {RUN_KEY}", found="none"
        )
    try:
        facts: dict[str, Any] = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise BadCheckpoint(f"{path}: not the state of a run", found=str(error)[:80]) from None
    if not isinstance(facts, dict):
        raise BadCheckpoint(f"{path}: not the state of a run", found=text[:80])
    if facts.get("version") != VERSION:
        raise BadCheckpoint(
            f"{path}: state of another version", expected=VERSION, found=facts.get("version")
        )
    if metadata.get(DIGEST_KEY) != _digest(tensors, text):
        raise BadCheckpoint(
            f"{path}: the state of the run is damaged",
            expected="the numbers that were saved",
            found="others",
            fix="Delete it, and start the run without --resume.",
        )
    return tensors, facts


def _digest(tensors: Mapping[str, Tensor], text: str) -> str:
    """Return the SHA-256 of the facts' text and of the tensors [contiguous, on the CPU], by name."""
    digest = hashlib.sha256(text.encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
