"""Saving a model: safetensors with its configuration, whole or not at all."""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Callable, Mapping

from safetensors.torch import save
from torch import Tensor

from squeeze.errors import BadCheckpoint
from squeeze.files import atomic_writer
from squeeze.train.metadata import CONFIG_KEY, RECIPE_KEY
from squeeze.train.model.config import ModelConfig
from squeeze.train.optim.recipe import Recipe


def checkpoint_bytes(
    config: ModelConfig,
    state: Mapping[str, Tensor],
    recipe: Recipe | None = None,
    facts: Mapping[str, str] | None = None,
) -> bytes:
    """Return a safetensors file of the tensors, in their dtypes, with the configuration as metadata.

    facts: more metadata, by the keys of `squeeze.train.metadata`

    The same weights give the same bytes. Raises BadCheckpoint for tensors of another configuration.
    """
    shapes = {name: tuple(weight.shape) for name, weight in state.items()}
    if shapes != config.parameter_shapes():
        raise BadCheckpoint("weights are not those of the configuration", found=sorted(shapes)[:4])
    tensors = {name: weight.detach().cpu().contiguous() for name, weight in state.items()}
    # one metadata key only: the library writes several in an order that changes from run to run
    data = save(tensors, metadata={CONFIG_KEY: config.to_json()})
    more = {} if recipe is None else {RECIPE_KEY: recipe.to_json()}
    more |= facts or {}
    return _with_metadata(data, more) if more else data


def save_checkpoint(
    path: str | os.PathLike[str],
    config: ModelConfig,
    state: Mapping[str, Tensor],
    recipe: Recipe | None = None,
    check: Callable[[], None] = lambda: None,
    facts: Mapping[str, str] | None = None,
) -> None:
    """Write `checkpoint_bytes`; a crash leaves the old file or the new one.

    check: called when all bytes are on disk and the file only lacks its name; if it raises, nothing is
        exported

    Raises SqueezeError when the file cannot be written.
    """
    data = checkpoint_bytes(config, state, recipe, facts)
    with atomic_writer(path) as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
        check()


def export_seconds(path: str | os.PathLike[str], config: ModelConfig) -> float:
    """Return the seconds to allow for writing a model of this size to `path`: twice those of a trial.

    Raises SqueezeError when the trial cannot be written.
    """
    start = time.perf_counter()
    trial = os.path.join(os.path.dirname(os.path.abspath(path)), f".{os.path.basename(path)}.trial")
    try:
        with atomic_writer(trial) as file:
            file.write(bytes(4 * config.num_params))
    finally:
        with contextlib.suppress(OSError):
            os.unlink(trial)
    return 0.05 + 2.0 * (time.perf_counter() - start)


def _with_metadata(data: bytes, more: Mapping[str, str]) -> bytes:
    """Return a safetensors file with further metadata: 8-byte header size, JSON, tensors."""
    size = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + size])
    header["__metadata__"] |= more
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + data[8 + size :]
