"""Saving a model: safetensors with its configuration, whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Mapping

from safetensors.torch import save
from torch import Tensor

from squeeze.errors import BadCheckpoint
from squeeze.files import write_atomic
from squeeze.train.config import ModelConfig

CONFIG_KEY = "squeeze.config"


def checkpoint_bytes(config: ModelConfig, state: Mapping[str, Tensor]) -> bytes:
    """A safetensors file of the tensors, in their dtypes, with the configuration as metadata.

    The same weights give the same bytes. Raises BadCheckpoint for tensors of another configuration.
    """
    shapes = {name: tuple(weight.shape) for name, weight in state.items()}
    if shapes != config.parameter_shapes():
        raise BadCheckpoint("weights are not those of the configuration", found=sorted(shapes)[:4])
    tensors = {name: weight.detach().cpu().contiguous() for name, weight in state.items()}
    # one metadata key only: the library writes several in an order that changes from run to run
    return save(tensors, metadata={CONFIG_KEY: config.to_json()})


def save_checkpoint(
    path: str | os.PathLike[str], config: ModelConfig, state: Mapping[str, Tensor]
) -> None:
    """Write `checkpoint_bytes`: a crash leaves the old file or the new one.

    Raises SqueezeError when it cannot be written.
    """
    write_atomic(path, checkpoint_bytes(config, state))
