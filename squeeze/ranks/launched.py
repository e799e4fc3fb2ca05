"""The environment variables by which torchrun, or a scheduler in its place, describes a run.

They are checked here, before `connected` reads them: what ships in a submission, where bytes count, is
started by torchrun and has no such checks.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch.distributed as dist

from squeeze.errors import BadConfig
from squeeze.ranks.connect import connected, resolve_device
from squeeze.ranks.group import Ranks

WHOLE = "WORLD_SIZE", "RANK", "MASTER_ADDR", "MASTER_PORT"  # of a run of several processes
NUMBERS = "WORLD_SIZE", "RANK", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_PORT"


@contextmanager
def connected_run(device: str | None = None) -> Iterator[Ranks]:
    """Open the group that the environment describes, as `connected` does, once that is checked.

    device: as in `resolve_device`, which chooses among the GPUs by that environment

    Raises BadConfig as `launched` and `resolve_device` do.
    """
    if not dist.is_initialized():
        launched()
    with connected(resolve_device(device)) as ranks:
        yield ranks


def launched() -> tuple[int, int]:
    """Return number and count of the processes of this run: (0, 1) where nothing describes one.

    Raises BadConfig for a description that is incomplete or contradicts itself.
    """
    fault = _fault()
    if fault:
        raise BadConfig(
            "environment of a run of several processes",
            expected="RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT as torchrun sets them, or none",
            found=fault,
            fix="Start it with torchrun, or unset these variables for a run of one process.",
        )
    return int(os.environ.get("RANK") or 0), int(os.environ.get("WORLD_SIZE") or 1)


def _fault() -> str:
    """Return the first contradiction in the description of this run; "" where there is none.

    A run of one process needs no description, and variables of the machine (LOCAL_RANK alone) none of
    the group.
    """
    texts = {name: os.environ.get(name) for name in (*WHOLE, *NUMBERS)}
    numbers: dict[str, int] = {}
    for name in NUMBERS:
        text = texts[name]
        if text is not None:
            if not (text.isascii() and text.isdigit() and len(text) < 10):
                return f"{name}={text[:40]!r}, which is no number"
            numbers[name] = int(text)
    rank, world, port = (numbers.get(name, 0) for name in ("RANK", "WORLD_SIZE", "MASTER_PORT"))
    if "WORLD_SIZE" not in numbers:
        return f"RANK={rank} without WORLD_SIZE" if "RANK" in numbers else ""
    missing = [name for name in WHOLE if not texts[name]]
    if world < 1:
        return f"WORLD_SIZE={world}"
    if world > 1 and missing:
        return f"WORLD_SIZE={world} without {', '.join(missing)}"
    if port >= 1 << 16:
        return f"MASTER_PORT={port}, which is no port"
    if rank >= world:
        return f"RANK={rank} of WORLD_SIZE={world}"
    return ""
