"""States of torch's random generators: reading and restoring them."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor


def random_state(device: torch.device) -> dict[str, Tensor]:
    """Return the states of torch's generators of this process, each [1, bytes] uint8."""
    states = {"cpu": torch.get_rng_state()[None]}
    if device.type == "cuda":
        states["cuda"] = torch.cuda.get_rng_state(device)[None]
    return states


def set_random_state(states: Mapping[str, Tensor], rank: int, device: torch.device) -> None:
    """Restore row `rank` of gathered states, where there is one."""
    for name, rows in states.items():
        if rank < len(rows):
            row = rows[rank].cpu().contiguous()
            torch.set_rng_state(row) if name == "cpu" else torch.cuda.set_rng_state(row, device)
