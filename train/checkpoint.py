"""Saving a model: safetensors with its configuration, whole or not at all."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path

from safetensors.torch import save
from torch import Tensor

from squeeze.errors import BadCheckpoint
from squeeze.train.config import ModelConfig

CONFIG_KEY = "squeeze.config"


def save_checkpoint(
    path: str | os.PathLike[str], config: ModelConfig, state: Mapping[str, Tensor]
) -> None:
    """Write tensors and configuration (metadata key `squeeze.config`) to a safetensors file.

    A temporary file is written, flushed to disk and renamed, so that a crash leaves the old file or
    the new one. The same weights give the same bytes. Raises BadCheckpoint when it cannot be written.
    """
    shapes = {name: tuple(weight.shape) for name, weight in state.items()}
    if shapes != config.parameter_shapes():
        raise BadCheckpoint("weights are not those of the configuration", found=sorted(shapes)[:4])
    tensors = {name: weight.detach().cpu().contiguous() for name, weight in state.items()}
    # one metadata key only: the library writes several in an order that changes from run to run
    data = save(tensors, metadata={CONFIG_KEY: config.to_json()})
    target = Path(path)
    temporary = None
    try:
        descriptor, temporary = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, target)
        temporary = None
    except OSError as error:
        raise BadCheckpoint(f"{target}: cannot be written: {error.strerror}") from None
    finally:
        if temporary is not None:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
