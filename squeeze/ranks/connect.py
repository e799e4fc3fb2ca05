"""Opening the process group that torchrun describes: NCCL on GPUs, gloo on CPUs.

A peer that dies is noticed by gloo when its connection closes; on GPUs torchrun ends the other ranks.
"""

from __future__ import annotations

import datetime
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import torch
import torch.distributed as dist

from squeeze.errors import SqueezeError
from squeeze.ranks.group import Ranks, lost_peers

SILENCE = datetime.timedelta(minutes=10)  # a peer that sends nothing for so long is lost


@contextmanager
def connected(device: torch.device) -> Iterator[Ranks]:
    """Open the group that torchrun describes in the environment, and close it in the end.

    device: what to compute on; of several GPUs each rank takes its own

    Yields a run of one where nothing is described. A group that exists already is used and left open.
    An error that several ranks raise is raised on one; the others exit with its status and print
    nothing. The loss of a rank is such an error, RankLost, of those that are left.
    """
    if dist.is_initialized():
        yield Ranks.current()
        return
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if world == 1:
        yield Ranks(device=device)
        return
    rank = int(os.environ["RANK"])
    start: dict[str, Any] = {"backend": "gloo"}
    if device.type == "cuda":
        device = own_gpu()
        torch.cuda.set_device(device)
        start = {"backend": "nccl", "device_id": device}
    with lost_peers():
        dist.init_process_group(rank=rank, world_size=world, timeout=SILENCE, **start)
    try:
        yield Ranks(rank, world, device)
    except SqueezeError as error:
        # torchrun ends the other ranks once one has failed, which must not cut off this one's report
        with suppress(ValueError):  # outside the main thread
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
        if not _is_first_report(error):
            raise SystemExit(error.exit_code) from None
        raise
    finally:
        with suppress(RuntimeError):  # the others may be gone
            dist.destroy_process_group()


def own_gpu() -> torch.device:
    """Return the GPU of this rank: the one with its number on this machine."""
    return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))


def _is_first_report(error: SqueezeError) -> bool:
    """Return whether no other rank reported this yet; torchrun's store outlives the ranks."""
    try:
        store = dist.distributed_c10d._get_default_store()
        return bool(store.add(f"squeeze.{type(error).__name__}", 1) == 1)
    except (RuntimeError, ValueError):
        return True
