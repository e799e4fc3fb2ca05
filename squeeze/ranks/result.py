"""Work that the first rank does for all, however long it takes."""

from __future__ import annotations

import datetime
import os
from collections.abc import Callable
from typing import Any, TypeVar

import torch
import torch.distributed as dist

from squeeze.ranks.group import Ranks, lost_peers

T = TypeVar("T")

PATIENCE = datetime.timedelta(days=1)  # longer than any work, shorter than forever


def result_of_first(ranks: Ranks, work: Callable[[], T]) -> T:
    """Return on every rank what `work` returns on the first, the only one that runs it.

    Every rank must call. The result travels pickled. An exception of `work` is raised on every rank;
    RankLost when the first rank ends before it has a result.
    """
    if ranks.world == 1:
        return work()
    with lost_peers():
        # a group of its own, because operations of the others may not take as long as the work
        group = dist.new_group(backend="gloo", timeout=PATIENCE)
    result, failure = None, None
    if ranks.first:
        threads = torch.get_num_threads()
        # the others wait, and torchrun gives each process one thread
        torch.set_num_threads(min(threads * ranks.world, max(threads, os.cpu_count() or 1)))
        try:
            result = work()
        except Exception as error:
            failure = error
        torch.set_num_threads(threads)
    outcome: list[Any] = [result, failure]
    with lost_peers():
        dist.broadcast_object_list(outcome, src=0, group=group)
        dist.destroy_process_group(group)
    del group  # a failure keeps this frame, and the group's threads must not outlive it
    result, failure = outcome
    if failure is not None:
        raise failure
    return result
