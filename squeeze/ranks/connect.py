"""Opening the process group that torchrun describes, and the device that a process computes on.

On GPUs the group has NCCL for tensors of the GPU and gloo for those of the CPU; elsewhere gloo alone.

A peer that dies is noticed by gloo when its connection closes; on GPUs torchrun ends the other ranks.
"""

from __future__ import annotations

import datetime
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import torch
import torch.distributed as dist

from squeeze.errors import BadConfig, SqueezeError
from squeeze.ranks.group import Ranks, computing_on, lost_peers

SILENCE = datetime.timedelta(minutes=10)  # a peer that sends nothing for so long is lost


@contextmanager
def connected(device: torch.device) -> Iterator[Ranks]:
    """Open the group that torchrun describes in the environment, and close it in the end.

    device: what to compute on, as `resolve_device` returns it

    Yields a run of one where nothing is described. A group that exists already is used and left open.
    An error that several ranks raise is raised on one; the others exit with its status and print
    nothing. The loss of a rank is such an error, RankLost, of those that are left. After an error a
    group of GPUs stays open: its process has to end. The description has to be whole: what a user
    starts checks that first (`squeeze.ranks.launched`).
    """
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if world == 1 or dist.is_initialized():
        with computing_on(device):
            yield Ranks.current()
        return
    rank, gpu = int(os.environ["RANK"]), device.type == "cuda"
    with lost_peers():
        dist.init_process_group(
            backend="cpu:gloo,cuda:nccl" if gpu else "gloo",
            device_id=device if gpu else None,
            rank=rank,
            world_size=world,
            timeout=SILENCE,
        )
    try:
        with computing_on(device):
            yield Ranks(rank, world, device)
    except SqueezeError as error:
        # torchrun ends the other ranks once one has failed, which must not cut off this one's report
        with suppress(ValueError):  # outside the main thread
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
        if not _is_first_report(error):
            raise SystemExit(error.exit_code) from None
        raise
    finally:
        # NCCL would wait here for ranks that know of no error and wait for this one
        if not (gpu and sys.exc_info()[0]):
            with suppress(RuntimeError):  # the others may be gone
                dist.destroy_process_group()


def resolve_device(name: str | None = None) -> torch.device:
    """Return the device that this process computes on, the current one from now on if it is a GPU.

    name: "cpu", "cuda" or "cuda:N"; None: a GPU where there is one, else the CPU

    Of several GPUs a rank takes the one with its number on this machine. Raises BadConfig if the device
    cannot be used, and for one GPU that several ranks would share.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        if name is not None:
            device = torch.device(name)
            if device.type not in ("cpu", "cuda"):
                raise RuntimeError("another kind of device than cpu or cuda")
            if device.index is not None and int(os.environ.get("LOCAL_WORLD_SIZE", "1")) > 1:
                raise RuntimeError("one for all processes of torchrun; as cuda each takes its own")
        if device.type == "cuda":
            if device.index is None:
                number = os.environ.get("LOCAL_RANK") or torch.cuda.current_device()
                device = torch.device("cuda", int(number))
            torch.cuda.set_device(device)
        torch.ones(1, device=device)  # a kernel, which this torch may not have for an old GPU
    except (RuntimeError, AssertionError, ValueError) as error:
        raise BadConfig(
            f"device {str(device) if name is None else name!r} cannot be used",
            found=str(error).partition("\n")[0][:100],
        ) from None
    return device


def _is_first_report(error: SqueezeError) -> bool:
    """Return whether no other rank reported this yet; torchrun's store outlives the ranks."""
    try:
        store = dist.distributed_c10d._get_default_store()
        return bool(store.add(f"squeeze.{type(error).__name__}", 1) == 1)
    except (RuntimeError, ValueError):
        return True
