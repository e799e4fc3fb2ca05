"""This process among those of a run: one class, with the same calls for one process and for many.

Every rank must make the same calls in the same order. Tensors must lie where the group's backend
reads them: NCCL on the GPU, gloo on the CPU.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
import torch.distributed as dist

# Its functions keep the group that exists when they are first imported as a default argument, so
# imported later (torch.compile does) they would keep gloo's threads beyond destroy_process_group,
# and a thread that still lets go of a tensor while Python exits aborts the process.
import torch.distributed.nn.functional
from torch import Tensor

from squeeze.errors import SqueezeError

T = TypeVar("T")
Wait = Callable[[], object]  # returns once an operation that was begun is complete


class RankLost(SqueezeError):
    """Another process of the run died or cannot be reached."""


@dataclass(frozen=True)
class Ranks:
    """This process among those of a run; `Ranks()` is a run of one, where nothing is sent.

    rank: number of this process, from 0
    world: number of processes
    device: what this process computes on
    """

    rank: int = 0
    world: int = 1
    device: torch.device = torch.device("cpu")  # noqa: RUF009  immutable

    @classmethod
    def current(cls) -> Ranks:
        """Return the ranks of the process group that exists; a run of one where none does."""
        if not dist.is_initialized():
            return cls()
        device = torch.device("cuda" if dist.get_backend() == "nccl" else "cpu")
        return cls(dist.get_rank(), dist.get_world_size(), device)

    @property
    def first(self) -> bool:
        """True on the rank that writes files and prints for all."""
        return self.rank == 0

    def deal(self, items: Sequence[T]) -> Sequence[T]:
        """Return this rank's items when they are dealt one by one to the ranks in turn."""
        return items[self.rank :: self.world]

    def sum_(self, tensor: Tensor) -> Wait:
        """Begin replacing tensor by its sum over the ranks; complete once the returned call returns."""
        if self.world == 1:
            return _nothing
        return _begin(lambda: dist.all_reduce(tensor, async_op=True))

    def summed_(self, tensor: Tensor) -> Tensor:
        """Replace tensor by its sum over the ranks, wait for it, and return it."""
        self.sum_(tensor)()
        return tensor

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
        """Return every rank's tensor [n, …] as one [world·n, …]; tensor itself in a run of one."""
        if self.world == 1:
            return tensor
        whole = tensor.new_empty((self.world * tensor.size(0), *tensor.shape[1:]))
        self.gather(whole, tensor.contiguous())()
        return whole

    def from_first(self, number: float) -> float:
        """Return rank 0's number on every rank."""
        own = number if self.first else 0.0
        return float(self.summed_(torch.tensor([own], dtype=torch.float64, device=self.device)))

    def on_all(self, condition: bool) -> bool:
        """Return whether a condition holds on every rank; waits for all of them."""
        count = torch.tensor(int(condition), device=self.device)
        return int(self.summed_(count)) == self.world


def _begin(start: Callable[[], Any]) -> Wait:
    with lost_peers():
        work = start()

    def wait() -> None:
        with lost_peers():
            work.wait()

    return wait


@contextmanager
def lost_peers() -> Iterator[None]:
    """Raise RankLost for errors of a connection to another process."""
    try:
        yield
    except (RuntimeError, OSError) as error:  # torch has no narrower class for a closed connection
        raise RankLost(
            "another process of the run was lost",
            found=str(error).strip().splitlines()[-1][:160] if str(error) else type(error).__name__,
            fix="Start again; training continues from its last saved state with --resume.",
        ) from None


def _nothing() -> None:
    pass


# the names changed in torch 2.13
_reduce_scatter = getattr(dist, "reduce_scatter_single", None) or dist.reduce_scatter_tensor
_all_gather = getattr(dist, "all_gather_single", None) or dist.all_gather_into_tensor
_HAS_SCATTER = {"gloo": hasattr(dist, "reduce_scatter_single")}
