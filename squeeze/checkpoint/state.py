"""Weights of a file by name, for programs that know nothing else of squeeze."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import numpy as np

from squeeze.artifact import streams
from squeeze.artifact.container import MAGIC
from squeeze.artifact.file import decode
from squeeze.artifact.parts import whole_tensors
from squeeze.checkpoint.entries import TABLE
from squeeze.checkpoint.names import HEAD
from squeeze.checkpoint.read import load_checkpoint
from squeeze.errors import BadCheckpoint, BadConfig
from squeeze.files import read_file

if TYPE_CHECKING:
    from torch import Tensor as Tensor
    from torch.nn import Module as Module

Array = np.ndarray[Any, np.dtype[np.floating[Any]]]
FRAMEWORKS = ("torch", "np")
NO_TENSOR = "none of that name"


def load_state(
    path: str | os.PathLike[str], framework: str, entry: str | None = None
) -> dict[str, Any]:
    """Return the tensors of an artifact or checkpoint by name, in the formats it was made from.

    framework: "torch", or "np", which imports no torch and gives bfloat16 as float32
    entry: one of several sets of weights in a file, such as "ema"

    Raises BadConfig for another framework, and as `squeeze.checkpoint.read.load_checkpoint` does.
    """
    if framework not in FRAMEWORKS:
        raise BadConfig("unknown framework", expected=" or ".join(FRAMEWORKS), found=framework)
    data = read_file(path)
    # an artifact may be of any model, a checkpoint of those that `squeeze.checkpoint.read` knows
    is_artifact = data[: len(MAGIC)] == MAGIC and entry is None
    tensors = whole_tensors(decode(data)) if is_artifact else load_checkpoint(path, entry).tensors
    if framework == "np":
        return {name: _array(tensor) for name, tensor in tensors.items()}
    from squeeze.artifact.unpack import torch_tensors

    return dict(torch_tensors(tensors))


def _array(tensor: streams.Tensor) -> Array:
    values = tensor.dequantize()
    return values.astype(np.float16) if tensor.logical == "fp16" else values


def load_into_module(
    module: Module, path: str | os.PathLike[str], entry: str | None = None
) -> None:
    """Copy the tensors of a file into a module, whose device and dtypes stay.

    A head that the module keeps under a name of its own is the table of a file that ties them.

    Raises BadCheckpoint, and changes nothing, unless names and shapes are those of the module.
    """
    state = load_state(path, "torch", entry)
    own = module.state_dict(keep_vars=True)
    first: dict[int, str] = {}
    for name, weight in own.items():
        # one tensor of the module under another name; masks and counters are its own
        other = first.setdefault(id(weight), name)
        if other in state:
            state.setdefault(name, state[other])
        elif not weight.is_floating_point():
            state.setdefault(name, weight.detach())
    own_shapes = {name: tuple(weight.shape) for name, weight in own.items()}
    if HEAD in own_shapes and TABLE in state:
        state.setdefault(HEAD, state[TABLE])
    shapes = {name: tuple(weight.shape) for name, weight in state.items()}
    for name in sorted(own_shapes.keys() | shapes.keys()):
        if own_shapes.get(name) != shapes.get(name):
            raise BadCheckpoint(
                f"{path}: tensor {name} does not fit the module",
                expected=own_shapes.get(name, NO_TENSOR),
                found=shapes.get(name, NO_TENSOR),
            )
    module.load_state_dict(state)
