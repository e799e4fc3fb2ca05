"""Models in memory, as the checkpoints that they would be saved to."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from squeeze.artifact.unpack import torch_tensors
from squeeze.checkpoint.complete import Completion, Config, complete, config_fields
from squeeze.checkpoint.names import Named, with_one_front, with_tied_head, without_wrappers
from squeeze.checkpoint.read import LoadedModel, load_model, refuse_non_finite
from squeeze.errors import BadCheckpoint
from squeeze.files import sha256
from squeeze.tensors.floats import to_bits
from squeeze.tensors.integers import is_derived, note_on
from squeeze.tensors.quantized import RawTensor
from squeeze.train.checkpoint import checkpoint_bytes
from squeeze.train.model.config import ModelConfig
from squeeze.train.model.gpt import GPT

FORMATS = {torch.float32: "fp32", torch.float16: "fp16", torch.bfloat16: "bf16"}

Packable = str | os.PathLike[str] | nn.Module | Mapping[str, torch.Tensor]


def open_model(
    model: Packable,
    config: Config | None = None,
    entry: str | None = None,
    assume: bool = False,
) -> LoadedModel:
    """Return a model that is given as a file, as a module of this package or as a state dict.

    config: the configuration, or those of its fields that the model does not tell
    entry: one of several sets of weights in a file, such as "ema"
    assume: take defaults for what neither says

    Raises BadCheckpoint for anything else, for weights that are not those of the configuration, and for
    NaN or infinite weights; for a file as `squeeze.checkpoint.read.load_model` does.
    """
    fields = config_fields(config) | ({"assume": True} if assume else {})
    if isinstance(model, str | os.PathLike):
        return load_model(model, entry, **fields)
    module = unwrapped(model)
    if isinstance(module, GPT):
        return _from_state(module.state_dict(), module.config, "module", fields)
    if isinstance(model, Mapping):
        return _from_state(model, None, "state dict", fields)
    raise BadCheckpoint(
        "not a model that squeeze knows",
        expected="a path, a torch.nn.Module, or a state dict of squeeze.train.model.gpt.GPT",
        found=type(model).__name__,
    )


def unwrapped(model: object) -> object:
    """Return the module inside the wrappers of torch.compile and DistributedDataParallel."""
    while isinstance(model, nn.Module):
        inner = getattr(model, "_orig_mod", None) or getattr(model, "module", None)
        if not isinstance(inner, nn.Module):
            break
        model = inner
    return model


def _from_state(
    state: Mapping[str, torch.Tensor],
    stored: ModelConfig | None,
    source: str,
    fields: dict[str, Any],
) -> LoadedModel:
    notes: list[str] = []
    weights: Named = {**stored_weights(state, notes)}
    tensors = without_wrappers(weights, notes, source)
    named, _ = with_one_front(tensors, None, notes, source)
    tensors = with_tied_head(named, notes)
    refuse_non_finite(tensors, source)
    if len(tensors) < len(named):
        fields = {**fields, "tie_embeddings": True}
    completed = complete(tensors, stored, Completion.of(fields))
    data = checkpoint_bytes(completed.config, torch_tensors(completed.tensors))
    return LoadedModel(
        completed.config,
        completed.tensors,
        notes + completed.notes,
        source,
        sha256(data),
        len(data),
        assumed=completed.assumed,
    )


def stored_weights(state: Mapping[str, object], notes: list[str]) -> dict[str, RawTensor]:
    """Return the tensors of a model in memory as a file stores them, in their own formats.

    What the model makes itself (`squeeze.tensors.integers`) is left out with a note. Raises
    BadCheckpoint for what is no tensor, has another format or no values.
    """
    derived = [name for name, tensor in state.items() if _is_derived(tensor)]
    notes += note_on(derived)
    kept = state.keys() - derived
    return {name: _raw(name, tensor) for name, tensor in state.items() if name in kept}


def _is_derived(tensor: object) -> bool:
    if not isinstance(tensor, torch.Tensor) or tensor.is_quantized or tensor.is_meta:
        return False
    number = FORMATS.get(tensor.dtype, str(tensor.dtype).removeprefix("torch."))
    return tensor.layout == torch.strided and is_derived(
        number, tuple(tensor.shape), lambda dtype: tensor.detach().cpu().numpy().astype(dtype)
    )


def _raw(name: str, weight: object) -> RawTensor:
    if not isinstance(weight, torch.Tensor) or weight.dtype not in FORMATS:
        kind = weight.dtype if isinstance(weight, torch.Tensor) else type(weight).__name__
        raise BadCheckpoint(
            f"tensor {name} is not a supported float",
            expected="a torch tensor of float32, float16 or bfloat16",
            found=kind,
            fix="Convert or drop it before packing.",
        )
    if weight.is_meta:
        raise BadCheckpoint(
            f"tensor {name} of the model has no values",
            expected="weights on the CPU",
            found="the meta device",
            fix="Build the model on the CPU, or load its weights there.",
        )
    number = FORMATS[weight.dtype]
    return RawTensor(to_bits(weight.detach().cpu().float().numpy(), number), number, number)
