"""Work whose result cannot depend on the number of threads.

torch and its libraries cut sums by the number of threads, and floats add up to other bits in another
order: MKL halves the rows of AᵀB, OpenBLAS and MKL factor other blocks (docs/log.md). Here the work is
cut by the data alone, every piece is computed by one thread, and pieces are joined in a fixed order;
threads only decide how many pieces are computed at a time.
"""

from __future__ import annotations

import copy
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Protocol, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

Item = TypeVar("Item")
Result = TypeVar("Result")
Spare = TypeVar("Spare")
Floats = TypeVar("Floats", bound=np.floating[Any])


class Weighted(Protocol):
    """A holder of weights, such as an nn.Module."""

    def parameters(self) -> Iterator[nn.Parameter]: ...


Model = TypeVar("Model", bound=Weighted)


@contextmanager
def one_thread() -> Iterator[None]:
    """Run torch's operations inside, called from this thread, on this thread alone."""
    # torch keeps the number for each thread of Python, which takes over the last one set anywhere
    # when it first asks: it is asked before it is set, so that no later question changes it.
    before = torch.get_num_threads()
    if before == 1:
        yield
        return
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def map_single_threaded(
    work: Callable[[Item], Result], items: Sequence[Item], device: torch.device, most: int = 1 << 30
) -> Iterator[Result]:
    """Yield work(item) for each item, in the order of the items, each computed by one thread.

    device: of the computation; a GPU shares out the work itself and gets one item after another
    most: items computed at a time, however many threads torch has; one more is begun before the caller
        has taken the first result, so that many results may be held

    An error of `work` is raised in its result's place, and no later item is begun.
    """
    threads = min(torch.get_num_threads(), most, len(items)) if device.type == "cpu" else 1

    def alone(item: Item) -> Result:
        with one_thread():
            return work(item)

    if threads <= 1:
        yield from map(alone, items)
        return
    begun: deque[Future[Result]] = deque()
    with ThreadPoolExecutor(threads) as pool:
        try:
            for item in items:
                begun.append(pool.submit(alone, item))
                if len(begun) > threads:
                    yield begun.popleft().result()
            while begun:
                yield begun.popleft().result()
        finally:
            for future in begun:
                future.cancel()


def lender(make: Callable[[], Spare]) -> Callable[[], AbstractContextManager[Spare]]:
    """Return a function that lends a spare object to one thread at a time.

    make: returns a new object; it is called as often as objects are lent at once
    """
    idle: list[Spare] = []

    @contextmanager
    def lend() -> Iterator[Spare]:
        try:
            spare = idle.pop()
        except IndexError:
            spare = make()
        yield spare
        idle.append(spare)

    return lend


def replicas(model: Model) -> Callable[[], AbstractContextManager[Model]]:
    """Return a lender of copies of a model that share its weights, each with hooks of its own.

    The model itself is not lent: hooks of a thread that had it would be copied for the others.
    """
    weights = {id(weight): weight for weight in model.parameters()}
    return lender(lambda: copy.deepcopy(model, dict(weights)))


def product(left: npt.NDArray[Floats], right: npt.NDArray[Floats]) -> npt.NDArray[Floats]:
    """Return the matrix product of two arrays [m, k] and [k, n] of one float dtype."""
    # copies: MKL may add in another order where memory begins at another multiple of 64 bytes,
    # and torch always allocates alike
    with one_thread():
        result: npt.NDArray[Floats] = torch.mm(torch.tensor(left), torch.tensor(right)).numpy()
    return result
