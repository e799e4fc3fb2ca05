"""Copies of a stranger's module: packing runs them, so they must compute with weights of their own."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from squeeze.errors import BadCheckpoint
from squeeze.subject.subject import Subject, named_tensors

COPY_TOLERANCE = 1e-3  # of outputs, over the largest


@torch.no_grad()
def check_copies(subject: Subject) -> None:
    """Raise BadCheckpoint when copies of the model compute with weights of the original.

    Functions that a module keeps (closures, hooks, scripted code) are not copied with it, and what they
    read stays the original's. So a copy with other weights must compute what the original does with
    them; its own are put back.
    """
    ids, own = subject.some_ids(), _floats(subject.module)
    kept = {name: tensor.detach().clone() for name, tensor in own.items()}
    other = {name: _other(tensor) for name, tensor in kept.items()}
    copy = subject.with_weights({name: tensor.cpu().numpy() for name, tensor in other.items()})
    outputs = _outputs(copy, ids)
    try:
        for name, tensor in own.items():
            tensor.copy_(other[name])
        expected = _outputs(subject, ids)
    finally:
        for name, tensor in own.items():
            tensor.copy_(kept[name])
    bound = COPY_TOLERANCE * float(expected.nan_to_num().abs().max())
    if not torch.allclose(outputs, expected, COPY_TOLERANCE, bound, equal_nan=True):
        raise BadCheckpoint(
            "copies of the model compute with weights of the original",
            expected="a module that reads its weights from itself",
            fix="Take closures, hooks, aliases and torch.jit off it: packing runs copies.",
        )


def _floats(module: nn.Module) -> dict[str, Tensor]:
    """Return the float tensors of a module that can be written to, by name."""
    named = named_tensors(module)
    return {n: t for n, t in named.items() if t.is_floating_point() and t.is_contiguous()}


def _other(tensor: Tensor) -> Tensor:
    """Return values that differ from a tensor's everywhere but at zeros, and are no larger."""
    factors = torch.linspace(0.5, 0.9, tensor.numel(), device=tensor.device)
    return tensor * factors.reshape(tensor.shape)


def _outputs(subject: Subject, ids: Tensor) -> Tensor:
    """Return the outputs float32 of a forward whose random numbers are always the same."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        # outputs may be weights themselves, which are about to change
        return subject.run(subject.module, ids).float().clone()
