"""The ranks of a run: one process alone, or those that torchrun started, with the same calls.

Backends: NCCL on GPUs, gloo on CPUs. Every rank must make the same calls in the same order. A peer
that dies is noticed by gloo when its connection closes; on GPUs torchrun ends the other ranks.
"""

from __future__ import annotations

import datetime
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist

# Its functions keep the group that exists when they are first imported as a default argument, so
# imported later (torch.compile does) they would keep gloo's threads beyond destroy_process_group,
# and a thread that still lets go of a tensor while Python exits aborts the process.
import torch.distributed.nn.functional
from torch import Tensor

from squeeze.errors import BadConfig, SqueezeError

SILENCE = datetime.timedelta(minutes=10)  # a peer that says nothing for so long is lost
Wait = Callable[[], object]


class RankLost(SqueezeError):
    """Another process of the run died or cannot be reached."""


@dataclass(frozen=True)
class Ranks:
    """This process among those of the run; `Ranks()` is a run of one, where nothing is sent."""

    rank: int = 0
    world: int = 1
    device: torch.device = torch.device("cpu")  # noqa: RUF009  immutable
    local: int = 0  # number on this machine: which GPU

    @property
    def first(self) -> bool:
        """Whether this rank speaks and writes for all."""
        return self.rank == 0

    def share(self, count: int) -> slice:
        """This rank's part of `count` things that divide evenly, in rank order."""
        each, left = divmod(count, self.world)
        if left:
            raise BadConfig(
                f"{count} sequences a step do not divide among the ranks",
                expected=f"a multiple of {self.world}",
                found=count,
                fix="Change batch_tokens.",
            )
        return slice(self.rank * each, (self.rank + 1) * each)

    def sum_(self, tensor: Tensor) -> Wait:
        """Begin replacing tensor by its sum over the ranks; done once the returned call returns."""
        if self.world == 1:
            return _nothing
        return _begin(lambda: dist.all_reduce(tensor, async_op=True))

    def sum_shares(self, tensor: Tensor, share: Tensor) -> Wait:
        """Begin summing tensor [world·n, …] over the ranks; each gets its own n rows in `share`."""
        if self.world == 1:
            return _nothing
        if not _HAS_SCATTER.get(dist.get_backend(), True):  # older gloo
            wait = self.sum_(tensor)
            rows = share.size(0)
            own = tensor[self.rank * rows : (self.rank + 1) * rows]
            return lambda: (wait(), share.copy_(own))
        return _begin(lambda: _reduce_scatter(share, tensor, async_op=True))

    def gather(self, whole: Tensor, share: Tensor) -> Wait:
        """Begin filling whole [world·n, …] with every rank's share [n, …], in rank order."""
        if self.world == 1:
            return _nothing
        return _begin(lambda: _all_gather(whole, share, async_op=True))

    def gathered(self, tensor: Tensor) -> Tensor:
        """Every rank's tensor [n, …] as one [world·n, …]; tensor itself in a run of one."""
        if self.world == 1:
            return tensor
        whole = tensor.new_empty((self.world * tensor.size(0), *tensor.shape[1:]))
        self.gather(whole, tensor.contiguous())()
        return whole


@contextmanager
def connected(device: torch.device) -> Iterator[Ranks]:
    """The ranks torchrun describes in the environment; a run of one when it describes none.

    device: what to compute on; of several GPUs each rank takes its own. An error that several ranks
    meet is raised on one; the rest exit with its status without a word. A rank that is lost is such an
    error, RankLost, of those that are left.
    """
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if world == 1:
        yield Ranks(device=device)
        return
    rank, local = int(os.environ["RANK"]), int(os.environ.get("LOCAL_RANK", "0"))
    start: dict[str, Any] = {"backend": "gloo"}
    if device.type == "cuda":
        device = torch.device("cuda", local)
        torch.cuda.set_device(device)
        start = {"backend": "nccl", "device_id": device}
    with _lost():
        dist.init_process_group(rank=rank, world_size=world, timeout=SILENCE, **start)
    try:
        yield Ranks(rank, world, device, local)
    except SqueezeError as error:
        if not _first_to_tell(error):
            raise SystemExit(error.exit_code) from None
        raise
    finally:
        with suppress(RuntimeError):  # the others may be gone
            dist.destroy_process_group()


def _first_to_tell(error: SqueezeError) -> bool:
    """Whether no other rank reported this yet; the store outlives ranks where torchrun keeps it."""
    try:
        store = dist.distributed_c10d._get_default_store()
        return bool(store.add(f"squeeze.{type(error).__name__}", 1) == 1)
    except (RuntimeError, ValueError):
        return True


def _begin(start: Callable[[], Any]) -> Wait:
    with _lost():
        work = start()

    def wait() -> None:
        with _lost():
            work.wait()

    return wait


@contextmanager
def _lost() -> Iterator[None]:
    try:
        yield
    except (RuntimeError, OSError) as error:  # torch has no narrower class for a closed connection
        raise RankLost(
            "another process of the run was lost",
            found=str(error).strip().splitlines()[-1][:160] if str(error) else type(error).__name__,
            fix="The last saved state is whole; continue with --resume.",
        ) from None


def _nothing() -> None:
    pass


# the names changed in torch 2.13
_reduce_scatter = getattr(dist, "reduce_scatter_single", None) or dist.reduce_scatter_tensor
_all_gather = getattr(dist, "all_gather_single", None) or dist.all_gather_into_tensor
_HAS_SCATTER = {"gloo": hasattr(dist, "reduce_scatter_single")}
