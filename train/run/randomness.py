"""The states of torch's random generators, taken and put back."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor


def random_state(device: torch.device) -> dict[str, Tensor]:
    """States of torch's generators of this process, each [1, bytes] uint8."""
    found = {"cpu": torch.get_rng_state()[None]}
    if device.type == "cuda":
        found["cuda"] = torch.cuda.get_rng_state(device)[None]
    return found


def set_random_state(states: Mapping[str, Tensor], rank: int, device: torch.device) -> None:
    """Restore row `rank` of gathered `random_state`s, where there is one."""
    for name, rows in states.items():
        if rank < len(rows):
            row = rows[rank].cpu().contiguous()
            torch.set_rng_state(row) if name == "cpu" else torch.cuda.set_rng_state(row, device)
