"""Weights of a subject: those of its module as tensors to be stored, and those of a file put into it."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from squeeze.artifact.streams import Tensor as Stored
from squeeze.checkpoint.entries import TABLE, fronts
from squeeze.checkpoint.live import stored_weights
from squeeze.checkpoint.names import HEAD, model_names
from squeeze.errors import BadCheckpoint
from squeeze.subject.subject import Subject, named_tensors
from squeeze.tensors.floats import Float32
from squeeze.tensors.quantized import RawTensor

LISTED = 4  # names in a sentence


@dataclass(frozen=True)
class State:
    """Weights of a module as they are stored.

    tensors: by name
    tied: other names of these tensors
    notes: sentences on what is left out
    """

    tensors: dict[str, RawTensor]
    tied: dict[str, str]
    notes: tuple[str, ...]


def state_of(module: nn.Module) -> State:
    """Return the weights of a module, each once, in the float formats that it has them in.

    Counters, masks and positions, which the module makes itself, are left out. Raises BadCheckpoint for
    weights of another number format or that are not finite.
    """
    notes: list[str] = []
    tensors = stored_weights(unique_tensors(module), notes)
    for name, tensor in tensors.items():
        if not np.isfinite(tensor.dequantize()).all():
            raise BadCheckpoint(
                f"tensor {name} has NaN or infinite values", expected="finite weights"
            )
    tied = {alias: name for alias, name in aliases_of(module).items() if name in tensors}
    return State(tensors, tied, tuple(notes))


def aliases_of(module: nn.Module) -> dict[str, str]:
    """Return the first name of each tensor of a module by its other names."""
    first: dict[int, str] = {}
    return {
        name: first[id(tensor)]
        for name, tensor in named_tensors(module).items()
        if first.setdefault(id(tensor), name) != name
    }


def unique_tensors(module: nn.Module) -> dict[str, Tensor]:
    """Return the parameters and persistent buffers of a module, each under its first name."""
    aliases = aliases_of(module)
    return {name: t for name, t in named_tensors(module).items() if name not in aliases}


def load_weights_(subject: Subject, weights: Mapping[str, Float32], source: str) -> None:
    """Write the weights of a file into a subject's module: all of its own, and no others.

    They go into the tensors that are there, as `load_state_dict` does it, for closures, hooks and
    scripted code of the module may hold those. source: of the weights, for errors

    Raises BadCheckpoint naming the first tensor that is missing, unexpected, of another shape, or
    that shares its memory with one of other values.
    """
    aliases, own = aliases_of(subject.module), unique_tensors(subject.module)
    named = {aliases.get(name, name): values for name, values in weights.items()}
    for name in sorted(own.keys() | named.keys()):
        expected = tuple(own[name].shape) if name in own else "no such tensor"
        found = tuple(named[name].shape) if name in named else "none of that name"
        needed = name in named or own[name].is_floating_point()
        if needed and expected != found:
            raise BadCheckpoint(
                f"{source}: tensor {name} does not fit the model", expected=expected, found=found
            )
    with torch.no_grad():
        for name, values in named.items():
            own[name].copy_(torch.tensor(values))
    for name, values in weights.items():
        loaded = own[aliases.get(name, name)]
        if not torch.equal(loaded.cpu(), torch.tensor(values, dtype=loaded.dtype)):
            raise BadCheckpoint(
                f"{source}: tensor {name} shares its memory with another in the model, not in the file",
                expected="the same numbers under both names",
                found=aliases.get(name, "two that differ"),
            )


def fill_(module: nn.Module, weights: Mapping[str, Stored]) -> None:
    """Write those weights of a file that fit into a module, before it runs for the first time.

    What a script makes with `torch.empty` may be no numbers until then. `load_weights_` checks all.
    """
    own = named_tensors(module)
    with torch.no_grad():
        for name, tensor in in_own_names(module, weights)[0].items():
            if name in own and not is_lazy(own[name]) and own[name].shape == tensor.shape:
                own[name].copy_(torch.tensor(tensor.dequantize()))


def in_own_names(module: nn.Module, weights: Mapping[str, Stored]) -> tuple[dict[str, Stored], str]:
    """Return the weights of a file by a module's own names, where it has such, and their front.

    The front stood before all names of the file and is in none of the module's; "" for nothing.
    """
    own, names = named_tensors(module), names_as_read(module)
    front = _front(list(weights), own.keys() | names.keys())
    short = {name.removeprefix(front): tensor for name, tensor in weights.items()}
    read = {
        name if name in own else names.get(name, name): tensor for name, tensor in short.items()
    }
    head, table = names.get(HEAD, HEAD), names.get(TABLE, TABLE)
    if head in unique_tensors(module) and table in read:
        # the reader of files leaves out a head that is the table bit by bit
        read.setdefault(head, read[table])
    return read, front


def _front(names: Sequence[str], own: Collection[str]) -> str:
    """Return the parts before all names that leave a module's own, "" for none.

    >>> _front(["model.emb.weight", "model.scale"], ["emb.weight", "scale"])
    'model.'
    """
    if any(name in own for name in names):
        return ""
    parts = names[0].split(".")[:-1] if names else []
    candidates = (".".join(parts[:depth]) + "." for depth in range(1, len(parts) + 1))
    for front in candidates:
        if all(name.startswith(front) and name.removeprefix(front) in own for name in names):
            return front
    return ""


def names_as_read(module: nn.Module) -> dict[str, str]:
    """Return a module's own name of each tensor, by the name under which files are read.

    What wrappers leave in names is gone from those, also where it is a part of the module's own.
    """
    own = list(named_tensors(module))
    try:
        clean = model_names(own, "the model")
    except BadCheckpoint:  # such names are told apart by those parts alone
        return {}
    candidates = fronts(list(clean.values()))
    front = candidates[0] if len(candidates) == 1 else ""
    front = front if all(name.startswith(front) for name in clean.values()) else ""
    return {name.removeprefix(front): own_name for own_name, name in clean.items()}
