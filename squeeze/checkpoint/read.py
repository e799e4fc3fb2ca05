"""Reading checkpoints, ours and the field's, without executing anything they contain.

Every reader returns tensors in the weights unit of `squeeze.tensors.quantized`: floats as bit patterns,
already quantized tensors as their codes, so that repacking a foreign artifact is lossless.
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np

from squeeze.artifact import container
from squeeze.artifact.facts import assumed_of, header_of, tokenizer_of
from squeeze.artifact.file import decode_file
from squeeze.artifact.parts import whole_tensors
from squeeze.artifact.streams import Tensor
from squeeze.checkpoint import llama
from squeeze.checkpoint.complete import Completion, complete
from squeeze.checkpoint.entries import TOP, WeightSet, no_choice
from squeeze.checkpoint.names import with_one_front, with_tied_head, without_wrappers
from squeeze.checkpoint.refused import refusal, refuse_folder
from squeeze.checkpoint.torch_files import Weights, read_torch
from squeeze.errors import BadCheckpoint
from squeeze.files import read_file, sha256
from squeeze.outside import safe_tensors, torch_old, torch_zip, zip_archive
from squeeze.outside.exports import uncompressed
from squeeze.tensors.floats import WORDS, Float32, from_bits
from squeeze.tensors.integers import is_derived, note_on
from squeeze.tensors.quantized import QuantizedTensor, RawTensor
from squeeze.train.fields import read_object
from squeeze.train.metadata import ASSUMED_KEY, CONFIG_KEY, TOKENIZER_KEY
from squeeze.train.model.config import ModelConfig


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint's tensors, and its configuration when the file carries one.

    format: of the file
    notes: sentences for the user on how it was read
    entry: part of the file the weights are, "" when it has no parts
    assumed: fields of the configuration that were guessed when the file was made
    tokenizer: SHA-256 of the tokenizer it was trained with, None where the file does not say
    header: configuration in the header of an artifact
    """

    tensors: dict[str, Tensor]
    config: ModelConfig | None
    format: str
    sha256: str
    size: int
    notes: list[str] = field(default_factory=list)
    entry: str = ""
    assumed: Mapping[str, Any] = field(default_factory=dict)
    tokenizer: str | None = None
    header: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class LoadedModel:
    """A checkpoint with its complete configuration: all that packing and scoring start from.

    stored: tensors of the checkpoint, under the names of our model
    notes: sentences for the user on how it was read and what was assumed
    source: format of the file
    entry: part of the file the weights are, "" when it has no parts
    assumed: fields of the configuration that nobody said, with the values that were taken
    tokenizer: SHA-256 of the tokenizer it was trained with, None where the file does not say
    """

    config: ModelConfig
    stored: dict[str, Tensor]
    notes: list[str]
    source: str
    sha256: str
    size: int
    entry: str = ""
    assumed: Mapping[str, Any] = field(default_factory=dict)
    tokenizer: str | None = None

    @property
    def header(self) -> dict[str, Any]:
        """Configuration of an artifact of this model, as JSON holds it."""
        return header_of(json.loads(self.config.to_json()), self.assumed, self.tokenizer)

    @cached_property
    def tensors(self) -> dict[str, Float32]:
        """Weights float32 by name, as `squeeze.train.model.gpt.GPT` takes them."""
        return {name: tensor.dequantize() for name, tensor in self.stored.items()}


def load_checkpoint(path: str | os.PathLike[str], entry: str | None = None) -> Checkpoint:
    """Read a safetensors file, torch `.pt`, challenge `.ptz` or `.sqz`; the content decides which.

    entry: names one of several sets of weights in a file, such as "ema". Tensors of all but `.sqz` files
    get the names the model itself gives them, and a head that is the embedding table is left out, as in
    a model that ties them; the notes say so.
    Raises BadCheckpoint (malformed, NaN or infinite, objects other than tensors, several sets of
    weights), UnsupportedFormat, CorruptData.
    """
    refuse_folder(path)
    data = read_file(path)
    name = Path(path).name
    if data[:4] == container.MAGIC:
        if entry is not None:
            raise no_choice([TOP], entry, name, several=False)
        artifact = decode_file(path, data)
        stored = None
        if "model" in artifact.config:
            stored = ModelConfig.from_json(json.dumps(artifact.config["model"]))
        return Checkpoint(
            whole_tensors(artifact),
            stored,
            "sqz",
            sha256(data),
            len(data),
            assumed=assumed_of(artifact.config),
            tokenizer=tokenizer_of(artifact.config),
            header=artifact.config,
        )
    weights, metadata = _weights(data, name, entry)
    notes = list(weights.notes)
    if not weights.tensors:
        raise BadCheckpoint(
            f"{name} holds no weights",
            expected="tensors of floats",
            found="; ".join(notes) or "no tensors",
        )
    tensors = without_wrappers(weights.tensors, notes, name)
    unmet = None if WeightSet(weights.entry, {}).matches(entry) else entry
    tensors, front = with_one_front(tensors, unmet, notes, name)
    untied = len(tensors)
    tensors = with_tied_head(tensors, notes)
    refuse_non_finite(tensors, name)
    config: ModelConfig | None = None
    assumed: dict[str, Any] = {}
    if CONFIG_KEY in metadata:
        config = ModelConfig.from_json(metadata[CONFIG_KEY])
        if len(tensors) < untied:
            config = dataclasses.replace(config, tie_embeddings=True)
        if ASSUMED_KEY in metadata:
            assumed = read_object(ASSUMED_KEY, metadata[ASSUMED_KEY])
    return Checkpoint(
        tensors,
        config,
        weights.format,
        sha256(data),
        len(data),
        notes,
        weights.entry or front,
        assumed,
        tokenizer_of({"tokenizer": metadata.get(TOKENIZER_KEY)}),
    )


def load_model(
    path: str | os.PathLike[str], entry: str | None = None, **statements: Any
) -> LoadedModel:
    """Read a checkpoint or artifact and complete its configuration (see `squeeze.checkpoint.complete`).

    entry: as of `load_checkpoint`
    statements: those of `squeeze.checkpoint.complete.Completion.of`: ModelConfig fields, `like`,
        `settings`, `assume`; None means not stated
    """
    return completed_model(load_checkpoint(path, entry), **statements)


def completed_model(checkpoint: Checkpoint, **statements: Any) -> LoadedModel:
    """Return a checkpoint with its complete configuration.

    statements: those of `load_model`

    Raises BadCheckpoint for weights of any other model than this project's.
    """
    if "subject" in checkpoint.header:
        raise BadCheckpoint(
            "an artifact of a model that is not squeeze's own",
            found=json.dumps(checkpoint.header["subject"])[:200],
            fix="Name the model with --model FILE.py:NAME; in Python, load_into one and give that.",
        )
    completed = complete(
        checkpoint.tensors, checkpoint.config, Completion.of(statements), checkpoint.assumed
    )
    return LoadedModel(
        completed.config,
        completed.tensors,
        checkpoint.notes + completed.notes,
        checkpoint.format,
        checkpoint.sha256,
        checkpoint.size,
        checkpoint.entry,
        completed.assumed,
        checkpoint.tokenizer,
    )


def is_own(checkpoint: Checkpoint, statements: Mapping[str, Any]) -> bool:
    """Return whether weights are of this project's model, and lack a statement at most."""
    if checkpoint.config is not None:
        return True
    try:
        completed_model(checkpoint, **{**statements, "assume": True})
    except BadCheckpoint:
        return False
    return True


def _weights(data: bytes, name: str, entry: str | None) -> tuple[Weights, dict[str, str]]:
    """Return the tensors of a file of any format but ours, and the text it carries beside them."""
    plain, coders = uncompressed(memoryview(data), name)
    if safe_tensors.looks(plain):
        return _read_safetensors(plain, name)
    if torch_old.looks(plain) or (plain[:4] == zip_archive.MAGIC and torch_zip.looks(plain, name)):
        return read_torch(plain, name, entry), {}
    if llama.looks(plain):
        return llama.read_llama(plain, name), {}
    raise refusal(plain, name, coders)


def _read_safetensors(data: memoryview, name: str) -> tuple[Weights, dict[str, str]]:
    header = safe_tensors.header(data, name)
    tensors: dict[str, Tensor] = {}
    derived = []
    for entry in header.tensors:
        octets = data[entry.start : entry.start + entry.size]
        if is_derived(entry.number, entry.shape, partial(np.frombuffer, octets)):
            derived.append(entry.name[:80])
            continue
        if entry.number not in WORDS:
            raise BadCheckpoint(
                f"{name}: tensor {entry.name[:80]} is not a supported float",
                expected="F32, F16 or BF16",
                found=entry.dtype,
                fix="Convert or drop it before packing.",
            )
        bits = np.frombuffer(octets, WORDS[entry.number]).reshape(entry.shape)
        tensors[entry.name] = RawTensor(bits, entry.number, entry.number)
    return Weights(tensors, "safetensors", note_on(derived)), header.metadata


def refuse_non_finite(tensors: dict[str, Tensor], name: str) -> None:
    """Raise BadCheckpoint for the first tensor with NaN or infinite values; name: of the checkpoint."""
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
