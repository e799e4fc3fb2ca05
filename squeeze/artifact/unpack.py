"""Artifact → safetensors: the inverse of packing, up to quantization."""

from __future__ import annotations

import torch

from squeeze.artifact.streams import Artifact
from squeeze.train.checkpoint import checkpoint_bytes
from squeeze.train.model.config import ModelConfig

_DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


def to_safetensors(artifact: Artifact) -> bytes:
    """Return the bytes of a safetensors file with the weights in their logical formats.

    Values are exactly those the evaluator uses: they are already rounded. `squeeze.checkpoint.read`
    reads tensors and configuration back.
    """
    tensors = {
        name: torch.tensor(tensor.dequantize()).to(_DTYPES[tensor.logical])
        for name, tensor in artifact.tensors.items()
    }
    return checkpoint_bytes(ModelConfig.from_fields(artifact.config["model"]), tensors)
