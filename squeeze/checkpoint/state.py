"""Weights of a file by name, for programs that know nothing else of squeeze."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import numpy as np

from squeeze.artifact import streams
from squeeze.artifact.container import MAGIC
from squeeze.artifact.file import decode_file
from squeeze.artifact.parts import whole_tensors
from squeeze.checkpoint.read import load_checkpoint
from squeeze.errors import BadConfig
from squeeze.files import read_file

if TYPE_CHECKING:
    from torch import Tensor as Tensor
    from torch.nn import Module as Module

Array = np.ndarray[Any, np.dtype[np.floating[Any]]]
FRAMEWORKS = ("torch", "np")


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
    tensors = (
        whole_tensors(decode_file(path, data))
        if is_artifact
        else load_checkpoint(path, entry).tensors
    )
    if framework == "np":
        return {name: _array(tensor) for name, tensor in tensors.items()}
    from squeeze.artifact.unpack import torch_tensors

    return dict(torch_tensors(tensors))


def _array(tensor: streams.Tensor) -> Array:
    values = tensor.dequantize()
    return values.astype(np.float16) if tensor.logical == "fp16" else values
