"""Reading checkpoints, ours and the field's, without executing anything they contain.

Every reader returns tensors in the weights unit of `squeeze.tensors.quantized`: floats as bit patterns,
already quantized tensors as their codes, so that repacking a foreign artifact is lossless.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from squeeze.artifact import container
from squeeze.artifact.file import decode
from squeeze.artifact.streams import Artifact, Tensor
from squeeze.errors import BadCheckpoint, UnsupportedFormat
from squeeze.files import read_file, sha256
from squeeze.tensors.floats import Float32, from_bits
from squeeze.tensors.quantized import QuantizedTensor, RawTensor
from squeeze.train.model.config import ModelConfig

SAFETENSORS_FORMATS = {"F32": "fp32", "F16": "fp16", "BF16": "bf16"}


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint's tensors, and its configuration when the file carries one.

    format: what the file turned out to be. notes: what a user should know about how it was read.
    """

    tensors: dict[str, Tensor]
    config: ModelConfig | None
    format: str
    sha256: str
    size: int
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class LoadedModel:
    """A checkpoint with its complete configuration: all that packing and scoring start from.

    stored: tensors as the checkpoint has them
    notes: sentences for the user on how it was read and what was assumed
    source: format of the file
    """

    config: ModelConfig
    stored: dict[str, Tensor]
    notes: list[str]
    source: str
    sha256: str
    size: int

    @cached_property
    def tensors(self) -> dict[str, Float32]:
        """Weights float32 by name, as `squeeze.train.model.gpt.GPT` takes them."""
        return {name: tensor.dequantize() for name, tensor in self.stored.items()}


def load_checkpoint(path: str | os.PathLike[str]) -> Checkpoint:
    """Read a safetensors file, torch `.pt`, challenge `.ptz` or `.sqz`; the content decides which.

    Raises BadCheckpoint (malformed, NaN or infinite, hostile pickle), UnsupportedFormat, CorruptData.
    """
    data = read_file(path)
    name = Path(path).name
    if data[:4] == container.MAGIC:
        artifact = decode(data)
        checkpoint = _checkpoint(artifact, "sqz", data)
    elif data[8:9] == b"{" and int.from_bytes(data[:8], "little") <= len(data):
        checkpoint = _read_safetensors(
            data, name
        )  # before zlib: its header may be 120 bytes, an "x"
    elif data[:4] == b"PK\x03\x04":
        from squeeze.checkpoint.torch_files import read_torch

        tensors, notes = read_torch(data, name)
        checkpoint = Checkpoint(tensors, None, "torch", sha256(data), len(data), notes)
    elif data[:1] == b"\x78":
        from squeeze.checkpoint.torch_files import read_int8_zlib

        tensors, notes = read_int8_zlib(data, name)
        checkpoint = Checkpoint(
            tensors, None, "int8_clean_per_row_v1", sha256(data), len(data), notes
        )
    else:
        raise UnsupportedFormat(
            f"{name}: not a checkpoint squeeze reads",
            expected="safetensors, torch .pt (zip), int8_clean_per_row_v1 .ptz or .sqz",
            found=f"first bytes {data[:8].hex() or '(empty file)'}",
        )
    _refuse_non_finite(checkpoint.tensors, name)
    return checkpoint


def load_model(path: str | os.PathLike[str], **overrides: Any) -> LoadedModel:
    """Read a checkpoint or artifact and complete its configuration (see `squeeze.checkpoint.infer`).

    overrides: ModelConfig fields given by the user; None means not given.
    """
    from squeeze.checkpoint.infer import complete_config

    checkpoint = load_checkpoint(path)
    shapes = {name: tensor.shape for name, tensor in checkpoint.tensors.items()}
    config, notes = complete_config(shapes, checkpoint.config, **overrides)
    return LoadedModel(
        config,
        checkpoint.tensors,
        checkpoint.notes + notes,
        checkpoint.format,
        checkpoint.sha256,
        checkpoint.size,
    )


def _checkpoint(artifact: Artifact, format: str, data: bytes) -> Checkpoint:
    config = ModelConfig.from_json(json.dumps(artifact.config.get("model", {})))
    return Checkpoint(artifact.tensors, config, format, sha256(data), len(data))


def _read_safetensors(data: bytes, name: str) -> Checkpoint:
    import safetensors

    try:
        entries = safetensors.deserialize(data)
    except Exception as error:  # the library raises its own SafetensorError and plain ones
        raise BadCheckpoint(f"{name}: not a valid safetensors file: {error}") from None
    header_size = int.from_bytes(data[:8], "little")
    metadata = json.loads(data[8 : 8 + header_size]).get("__metadata__", {})
    tensors: dict[str, Tensor] = {}
    for key, entry in entries:
        number = SAFETENSORS_FORMATS.get(entry["dtype"])
        if number is None:
            raise BadCheckpoint(
                f"{name}: tensor {key} is not a supported float",
                expected="F32, F16 or BF16",
                found=entry["dtype"],
                fix="Convert or drop it before packing.",
            )
        word = np.uint32 if number == "fp32" else np.uint16
        bits = np.frombuffer(entry["data"], dtype=word).reshape(entry["shape"])
        tensors[key] = RawTensor(bits, number, number)
    text = metadata.get("squeeze.config")
    config = None if text is None else ModelConfig.from_json(text)
    return Checkpoint(tensors, config, "safetensors", sha256(data), len(data))


def _refuse_non_finite(tensors: dict[str, Tensor], name: str) -> None:
    for key, tensor in tensors.items():
        if isinstance(tensor, QuantizedTensor):
            values = from_bits(tensor.steps, tensor.step_format)
        else:
            values = tensor.dequantize()
        bad = values.size - int(np.isfinite(values).sum())
        if bad:
            raise BadCheckpoint(
                f"{name}: tensor {key} has NaN or infinite values",
                expected="finite weights",
                found=f"{bad} of {values.size}",
                fix="Train on from an earlier checkpoint.",
            )
