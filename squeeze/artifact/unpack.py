"""Artifact → safetensors: the inverse of packing, up to quantization."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from safetensors.torch import save

from squeeze.artifact.container import MAGIC
from squeeze.artifact.facts import metadata_of
from squeeze.artifact.file import decode_file
from squeeze.artifact.parts import whole_tensors
from squeeze.artifact.streams import Artifact, Tensor
from squeeze.errors import UnsupportedFormat
from squeeze.files import read_file, write_atomic
from squeeze.train.checkpoint import checkpoint_bytes
from squeeze.train.model.config import ModelConfig

_DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


@dataclass(frozen=True)
class Unpacked:
    """An artifact and its sizes in bytes: packed, and as a checkpoint."""

    artifact: Artifact
    packed: int
    plain: int


def unpack(path: str | os.PathLike[str], target: str | os.PathLike[str]) -> Unpacked:
    """Write an artifact as a safetensors checkpoint, and return its content and both sizes.

    Raises UnsupportedFormat for any other file, CorruptData for a damaged one.
    """
    data = read_file(path)
    if data[: len(MAGIC)] != MAGIC:
        raise UnsupportedFormat(f"{path}: not a .sqz artifact", found=data[:4].hex())
    artifact = decode_file(path, data)
    blob = to_safetensors(artifact)
    write_atomic(target, blob)
    return Unpacked(artifact, len(data), len(blob))


def to_safetensors(artifact: Artifact) -> bytes:
    """Return the bytes of a safetensors file with the weights in their logical formats.

    `squeeze.checkpoint.read` reads tensors back, and the configuration of a model of this project.
    """
    tensors = torch_tensors(whole_tensors(artifact))
    facts = metadata_of(artifact.config)
    if "model" not in artifact.config:
        return save(tensors, metadata=facts)
    return checkpoint_bytes(ModelConfig.from_fields(artifact.config["model"]), tensors, facts=facts)


def torch_tensors(tensors: Mapping[str, Tensor]) -> dict[str, torch.Tensor]:
    """Return torch tensors on the CPU, in the logical formats.

    Their values are exactly those that are scored: `dequantize` rounds them to the same formats.
    """
    return {
        name: torch.tensor(tensor.dequantize()).to(_DTYPES[tensor.logical])
        for name, tensor in tensors.items()
    }
