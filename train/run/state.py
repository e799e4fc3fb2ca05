"""The state of a run on disk: all that the next step depends on, in one file, without pickle.

A safetensors file whose only metadata key, `squeeze.run`, is a JSON object of the small facts.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from squeeze.errors import BadCheckpoint
from squeeze.files import read_file, write_atomic

RUN_KEY = "squeeze.run"
VERSION = 1


def save_state(
    path: str | os.PathLike[str], tensors: Mapping[str, Tensor], facts: Mapping[str, Any]
) -> None:
    """Write tensors and facts (JSON values), whole or not at all; raises SqueezeError when it cannot."""
    copies = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    text = json.dumps({"version": VERSION, **facts}, sort_keys=True)
    write_atomic(path, save(copies, metadata={RUN_KEY: text}))


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
            text = (file.metadata() or {}).get(RUN_KEY)
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise BadCheckpoint(f"{path}: not the state of a run", found=str(error)[:120]) from None
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
    return tensors, facts
