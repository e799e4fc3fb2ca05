"""Artifact → safetensors: the inverse of packing, up to quantization."""

from __future__ import annotations

import json

import torch
from safetensors.torch import save

from squeeze.artifact import Artifact

_DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


def to_safetensors(artifact: Artifact) -> bytes:
    """The bytes of a safetensors file with the weights in their logical formats.

    The model configuration goes into the metadata key `squeeze.config`, where `squeeze.checkpoint`
    reads it back. Values are exactly those the evaluator uses: they are already rounded.
    """
    tensors = {
        name: torch.tensor(tensor.dequantize()).to(_DTYPES[tensor.logical])
        for name, tensor in artifact.tensors.items()
    }
    model = json.dumps(artifact.config["model"], sort_keys=True, separators=(",", ":"))
    return save(tensors, {"squeeze.config": model})
