"""Work in pieces of one thread: the same results on any number of threads, in any order of ending."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future

import numpy as np
import pytest
import torch
from torch import nn

from squeeze.calib import parallel
from squeeze.calib.parallel import lender, map_single_threaded, one_thread, product, replicas
from squeeze.calib.statistics import fisher, inputs
from squeeze.calib.statistics.collect import collect
from squeeze.calib.statistics.fisher import collect_gradients
from squeeze.calib.text.generate import generate
from squeeze.calib.text.sources import RandomTokens
from squeeze.packing.costs import measured_divergence
from squeeze.subject.subject import Subject
from squeeze.train.model.cache import Cache
from squeeze.train.model.config import ModelConfig
from squeeze.train.model.gpt import GPT
from tests.tapping import tapped

CPU, GPU = torch.device("cpu"), torch.device("cuda")


@pytest.fixture(autouse=True)
def threads() -> Iterator[Callable[[int], None]]:
    """Set torch's number of threads, three at first, for one test."""
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield torch.set_num_threads
    torch.set_num_threads(before)


def test_results_come_in_the_order_of_the_items_whichever_ends_first() -> None:
    def later(number: int) -> int:
        time.sleep(0.02 * (5 - number))
        return number

    assert list(map_single_threaded(later, range(6), CPU)) == list(range(6))


def test_every_piece_runs_on_one_thread_of_torch_and_the_caller_keeps_its_own() -> None:
    def count(_: int) -> tuple[int, int]:
        torch.ones(200_000).sum()  # torch asks for the number again when it first needs threads
        return torch.get_num_threads(), threading.get_ident()

    counts = list(map_single_threaded(count, range(8), CPU))
    assert {number for number, _ in counts} == {1} and torch.get_num_threads() == 3
    assert threading.get_ident() not in {thread for _, thread in counts}
    assert list(map_single_threaded(count, range(2), GPU)) == [(1, threading.get_ident())] * 2
    seen: list[int] = []
    thread = threading.Thread(target=lambda: seen.append(torch.get_num_threads()))
    thread.start()
    thread.join()
    assert seen == [3]  # that a thread which comes later begins with


def test_no_more_pieces_run_at_a_time_than_asked_for() -> None:
    lock, running, most = threading.Lock(), 0, 0

    def work(_: int) -> None:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        time.sleep(0.01)
        with lock:
            running -= 1

    list(map_single_threaded(work, range(9), CPU, most=2))
    assert most == 2


def test_one_result_more_than_threads_waits_for_the_caller() -> None:
    begun: list[int] = []
    results = map_single_threaded(begun.append, range(20), CPU)
    next(results)
    time.sleep(0.2)
    assert len(begun) == 4
    results.close()
    assert len(begun) == 4


def test_an_error_takes_the_place_of_its_result_and_ends_the_work() -> None:
    begun: list[int] = []

    def work(number: int) -> int:
        begun.append(number)
        return 1 // (2 - number)

    results = map_single_threaded(work, range(50), CPU)
    assert [next(results), next(results)] == [0, 1]
    with pytest.raises(ZeroDivisionError):
        next(results)
    assert len(begun) < 8 and torch.get_num_threads() == 3


def test_one_thread_is_left_again_after_an_error() -> None:
    with pytest.raises(ValueError, match="no"), one_thread():
        assert torch.get_num_threads() == 1
        raise ValueError("no")
    assert torch.get_num_threads() == 3


def test_a_thing_is_lent_to_one_at_a_time_and_again() -> None:
    lend = lender(object)
    with lend() as first, lend() as second:
        assert first is not second
    with lend() as again:
        assert again in (first, second)


def test_replicas_share_weights_and_nothing_else() -> None:
    model = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
    lend = replicas(model)
    with lend() as one, lend() as two:
        assert one is not two and one is not model
        for mine, yours in zip(one.parameters(), model.parameters(), strict=True):
            assert mine is yours
        one[0].register_forward_hook(lambda *_: None)
        assert not two[0]._forward_hooks and not model[0]._forward_hooks
        assert one[1].running_mean is not model[1].running_mean


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_products_do_not_depend_on_where_memory_begins_nor_on_its_order(dtype: type) -> None:
    rng = np.random.default_rng(1)
    left, right = rng.standard_normal((70, 130)), rng.standard_normal((130, 50))
    left, right = left.astype(dtype), right.astype(dtype)
    expected = product(left, right)
    assert expected.dtype == dtype
    np.testing.assert_allclose(expected, left @ right, rtol=1e-5, atol=1e-5)
    for shift in (1, 3, 8):
        moved = np.empty(left.size + shift, dtype)[shift:].reshape(left.shape)
        moved[:] = left
        assert np.array_equal(product(moved, right), expected)
    wide = np.zeros((130, 90), dtype)
    wide[:, 20:70] = right
    assert np.array_equal(product(left, wide[:, 20:70]), expected)


class Backwards:
    """A pool that begins nothing until a result is waited for, and then with what came last."""

    def __init__(self, threads: int) -> None:
        self.open: list[Waiting] = []

    def __enter__(self) -> Backwards:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def submit(self, work: Callable[[object], object], item: object) -> Waiting:
        self.open.append(Waiting(self, work, item))
        return self.open[-1]


class Waiting(Future):  # type: ignore[type-arg]
    """A result that a pool owes."""

    def __init__(self, pool: Backwards, work: Callable[[object], object], item: object) -> None:
        super().__init__()
        self.pool, self.work, self.item = pool, work, item

    def result(self, timeout: float | None = None) -> object:
        while self.pool.open:
            last = self.pool.open.pop()
            last.set_result(last.work(last.item))
        return super().result(timeout)


def statistics(model: GPT, other: GPT) -> list[object]:
    """Text, gradients, Hessians and measured cost, in several pieces each, to the bit."""
    text = RandomTokens(50, 0).draw(480, 20)
    gradients, hessians = collect_gradients(tapped(model), text), collect(tapped(model), text)
    return [
        generate(lambda batch, length: Cache(model, batch, length), 50, 70, 6).tobytes(),
        measured_divergence(Subject.of_gpt(model), Subject.of_gpt(other), text).mean,
        *(gradients.best(name).tobytes() for name in gradients.rows),
        *(matrix.tobytes() for matrix in hessians.matrices.values()),
    ]


def test_statistics_do_not_depend_on_the_order_in_which_pieces_end(
    threads: Callable[[int], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inputs, "BLOCK", 64)
    monkeypatch.setattr(fisher, "BLOCK", 64)
    config = ModelConfig(50, 2, 24, 2, 1, 40, layer_schedule=(0, 1, 0), seq_len=20)
    models = [GPT(config, seed=seed).eval() for seed in (1, 2)]
    for model in models:
        for weight in model.parameters():
            weight.data += 0.1 * torch.randn(weight.shape, generator=torch.Generator())
    threads(1)
    alone = statistics(*models)
    monkeypatch.setattr(parallel, "ThreadPoolExecutor", Backwards)
    for number in (2, 3, 5):
        threads(number)
        assert statistics(*models) == alone


def test_every_forward_and_backward_of_calibration_runs_on_one_thread() -> None:
    seen: set[int] = set()

    class Watched(GPT):
        """A model that looks at torch's number of threads on the way there and back."""

        def hidden(self, ids: torch.Tensor, past: object = None) -> torch.Tensor:
            states = super().hidden(ids, past)  # type: ignore[arg-type]
            if ids.numel() > 1 and states.requires_grad:
                states.register_hook(lambda gradient: seen.add(torch.get_num_threads()))
            if ids.numel() > 1:  # the first look at the layers computes one token
                seen.add(torch.get_num_threads())
            return states

    model = Watched(ModelConfig(50, 2, 24, 2, 1, 40, seq_len=20)).eval()
    statistics(model, model)
    assert seen == {1}
