"""Checks of a stranger's module: weights without values and outputs that are no logits are refused."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from squeeze.errors import BadCheckpoint

SUM_TOLERANCE = 1e-2  # of probabilities in 16 bits


def check_values(module: nn.Module) -> None:
    """Raise BadCheckpoint for a parameter or buffer without values: lazy, or on the meta device."""
    for name, tensor in (*module.named_parameters(), *module.named_buffers()):
        lazy = is_lazy(tensor)
        if lazy or tensor.is_meta:
            raise BadCheckpoint(
                f"tensor {name} of the model has no values",
                expected="weights on the CPU",
                found="a lazy layer that never ran" if lazy else "the meta device",
                fix="Build the model on the CPU, and run a forward once where layers are lazy.",
            )


def check_no_probabilities(outputs: Tensor) -> None:
    """Raise BadCheckpoint for outputs [B, T, V] that are probabilities, not their logarithms."""
    sums = outputs.sum(-1)
    if bool((outputs >= 0).all()) and bool(((sums - 1).abs() < SUM_TOLERANCE).all()):
        raise BadCheckpoint(
            "the model's forward returns probabilities",
            expected="logits, or logarithms of probabilities",
            found="numbers from 0 that sum to 1 for each token",
            fix="Write a function logits(module, ids) beside the model that returns their logarithms.",
        )


def check_not_masked(outputs: Tensor) -> None:
    """Raise BadCheckpoint for outputs [B, T, V] that are minus infinity for a token everywhere."""
    masked = (outputs == -torch.inf).flatten(0, -2).all(0)
    if not bool(masked.any()):
        return
    columns = masked.nonzero().flatten().tolist()
    last = columns[-1] == outputs.size(-1) - 1 and columns[0] + len(columns) == outputs.size(-1)
    fix = f"return the logits [..., :{columns[0]}]" if last else "put -1e4 in place of -inf"
    raise BadCheckpoint(
        "the model's logits of some tokens are minus infinity everywhere",
        expected="finite logits",
        found=f"{len(columns)} such tokens from {columns[0]} to {columns[-1]}",
        fix=f"Write a function logits(module, ids) beside the model, and {fix}.",
    )
