"""Work split over the ranks of torch.distributed; alone, a rank of one."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.distributed as dist
from torch import Tensor


def rank_and_world() -> tuple[int, int]:
    """This process's rank and the number of ranks; (0, 1) when no process group is initialised."""
    if dist.is_available() and dist.is_initialized():
        return dist.get_rank(), dist.get_world_size()
    return 0, 1


def sum_over_ranks_(tensor: Tensor) -> Tensor:
    """Replace tensor by its sum over all ranks; every rank must call with the same shape and dtype."""
    if rank_and_world()[1] > 1:
        dist.all_reduce(tensor)
    return tensor


def all_ranks(value: bool) -> bool:
    """Whether value holds on every rank; every rank must call."""
    world = rank_and_world()[1]
    if world == 1:
        return value
    device = "cuda" if dist.get_backend() == "nccl" else "cpu"
    return int(sum_over_ranks_(torch.tensor(int(value), device=device))) == world


@contextmanager
def process_group() -> Iterator[int]:
    """This process's rank, in the group that torchrun describes; alone when it describes none.

    NCCL where there is a GPU, gloo elsewhere. A group that exists already is used and left alone.
    """
    if dist.is_initialized() or int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield rank_and_world()[0]
        return
    dist.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
    try:
        yield rank_and_world()[0]
    finally:
        dist.destroy_process_group()
