"""This process among those of a run: one class, with the same calls for one process and for many.

Every rank must make the same calls in the same order. Tensors may lie on any device: a group that has
no backend for the CPU (NCCL alone) gets a companion that has one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from traceback import clear_frames
from typing import Any, TypeVar
from weakref import WeakKeyDictionary, ref

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
        """Return the ranks of the process group that exists; a run of one where none does.

        The device is that of the `connected` around this call, otherwise the process's GPU where the
        group is made for GPUs, and the CPU where it is not.
        """
        device = _computing[-1] if _computing else _group_device()
        if not dist.is_initialized():
            return cls(device=device)
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
        return _begin(lambda: dist.all_reduce(tensor, group=_group_of(tensor), async_op=True))

    def summed_(self, tensor: Tensor) -> Tensor:
        """Replace tensor by its sum over the ranks, wait for it, and return it."""
        self.sum_(tensor)()
        return tensor

    def sum_shares(self, tensor: Tensor, share: Tensor) -> Wait:
        """Begin summing tensor [world·n, …] over the ranks; each gets its own n rows in `share`."""
        if self.world == 1:
            return _nothing
        backend = dist.get_backend() if tensor.is_cuda else "gloo"
        if not _HAS_SCATTER.get(backend, True):  # older gloo
            wait = self.sum_(tensor)
            rows = share.size(0)
            own = tensor[self.rank * rows : (self.rank + 1) * rows]
            return lambda: (wait(), share.copy_(own))
        group = _group_of(tensor)
        return _begin(lambda: _reduce_scatter(share, tensor, group=group, async_op=True))

    def gather(self, whole: Tensor, share: Tensor) -> Wait:
        """Begin filling whole [world·n, …] with every rank's share [n, …], in rank order."""
        if self.world == 1:
            return _nothing
        return _begin(lambda: _all_gather(whole, share, group=_group_of(share), async_op=True))

    def gathered(self, tensor: Tensor) -> Tensor:
        """Return every rank's tensor [n, …] as one [world·n, …]; tensor itself in a run of one."""
        if self.world == 1:
            return tensor
        whole = tensor.new_empty((self.world * tensor.size(0), *tensor.shape[1:]))
        self.gather(whole, tensor.contiguous())()
        return whole

    def exchanged(self, tensor: Tensor) -> Tensor:
        """Return, of every rank's tensor [world·n, …], the n rows for this rank, in rank order."""
        if self.world == 1:
            return tensor
        tensor, whole = tensor.contiguous(), torch.empty_like(tensor)
        group = _group_of(tensor)
        _begin(lambda: dist.all_to_all_single(whole, tensor, group=group, async_op=True))()
        return whole

    def from_first(self, number: float) -> float:
        """Return rank 0's number on every rank."""
        own = number if self.first else 0.0
        return float(self.summed_(torch.tensor([own], dtype=torch.float64)))

    def on_all(self, condition: bool) -> bool:
        """Return whether a condition holds on every rank; waits for all of them."""
        return int(self.summed_(torch.tensor(int(condition)))) == self.world


@contextmanager
def computing_on(device: torch.device) -> Iterator[None]:
    """Make a device the one that `Ranks.current` gives inside."""
    _computing.append(device)
    try:
        yield
    finally:
        _computing.pop()


_computing: list[torch.device] = []
# process group → its companion for the CPU. Held weakly: one that outlived destroy_process_group would
# keep its threads until Python exits, which aborts the process where one then lets go of a tensor.
_companions: WeakKeyDictionary[Any, ref[Any]] = WeakKeyDictionary()


def _group_device() -> torch.device:
    """Return the device that the default group is made for."""
    if dist.is_initialized() and "cpu" not in _served() and torch.cuda.is_available():
        return torch.device("cuda", torch.cuda.current_device())
    return torch.device("cpu")


def _served() -> set[str]:
    """Return the types of the devices that the default group has a backend for."""
    return {device.type for device in dist.group.WORLD._device_types}  # type: ignore[union-attr]


def _group_of(tensor: Tensor) -> Any:
    """Return the group that reads this tensor where it lies: the default one, or its companion."""
    if tensor.device.type != "cpu" or "cpu" in _served():
        return dist.group.WORLD
    known = _companions.get(dist.group.WORLD)
    companion = known() if known else None
    if companion is None:
        with lost_peers():
            # every rank makes the same calls, so all of them arrive here together
            companion = dist.new_group(backend="gloo")
        _companions[dist.group.WORLD] = ref(companion)
    return companion


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
        clear_frames(error.__traceback__)  # they hold the group, whose threads must not outlive it
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
