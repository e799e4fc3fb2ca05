"""Weights of a file copied into a module in memory."""

from __future__ import annotations

import os

import torch
from torch.nn import Module

from squeeze.checkpoint.entries import TABLE
from squeeze.checkpoint.names import HEAD
from squeeze.checkpoint.state import load_state
from squeeze.errors import BadCheckpoint

NO_TENSOR = "none of that name"


def load_into_module(
    module: Module, path: str | os.PathLike[str], entry: str | None = None
) -> None:
    """Copy the tensors of a file into a module, whose device and dtypes stay.

    A head that the module keeps under a name of its own is the table of a file that ties them.

    Raises BadCheckpoint, and changes nothing, unless names and shapes are those of the module, and its
    tensors can be written.
    """
    _check_writable(module)
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


def _check_writable(module: object) -> None:
    """Raise BadCheckpoint unless this is a module, each of whose tensors holds values of its own.

    Torch drops what is copied into tensors on the device `meta`, and refuses to write those made under
    inference mode once that has ended.
    """
    if not isinstance(module, Module):
        raise BadCheckpoint(
            "nothing to load into", expected="a torch.nn.Module", found=type(module).__name__
        )
    for name, weight in module.state_dict(keep_vars=True).items():
        if weight.is_meta:
            fault, fix = "has no values", "Give it some: module.to_empty(device='cpu')."
        elif weight.is_inference() and not torch.is_inference_mode_enabled():
            fault, fix = "was made under inference mode", "Load under torch.inference_mode()."
        else:
            continue
        raise BadCheckpoint(f"tensor {name} of the module {fault}", found=weight.device, fix=fix)
