"""The order of windows: every one once a pass, the same for any number of ranks, with no memory."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from squeeze.errors import BadConfig, BadData
from squeeze.ranks.group import Ranks
from squeeze.train.data.loader import Loader, Order

SHARDS = [
    np.arange(1000 * n, 1000 * n + size, dtype=np.uint16) for n, size in enumerate((97, 5, 260))
]


def loader(ranks: Ranks = Ranks(), seed: int = 0, batch: int = 4) -> Loader:  # noqa: B008
    return Loader(SHARDS, 8, batch, 4000, seed, ranks)


@given(
    st.lists(st.integers(0, 200), min_size=1, max_size=6), st.integers(1, 12), st.integers(0, 50)
)
def test_a_pass_visits_every_window_of_every_shard_once(
    lengths: list[int], seq_len: int, seed: int
) -> None:
    if max(lengths) <= seq_len:
        lengths.append(seq_len + 1)
    order = Order(lengths, seq_len, seed)
    begun = 0
    for _ in range(3):
        shards, starts = order.windows(begun, 1)
        count = order._ends[-1] - begun
        shards, starts = order.windows(begun, count)
        assert (starts + seq_len < np.array(lengths)[shards]).all()
        assert len(set(zip(shards.tolist(), (starts // seq_len).tolist(), strict=True))) == count
        assert len({start % seq_len for start in starts.tolist()}) == 1
        spare = np.maximum(0, (np.array(lengths) - 1 - int(starts[0]) % seq_len) // seq_len)
        assert count == spare.sum()
        begun += count


def test_targets_are_the_inputs_one_token_later() -> None:
    batches = loader()
    for _ in range(30):
        ids, targets = batches.next()
        assert ids.shape == targets.shape == (4, 8)
        assert torch.equal(targets, ids + 1)


def test_a_batch_mixes_shards_and_places() -> None:
    long = [np.full(10_000, n, np.uint16) for n in range(4)]
    ids, _ = Loader(long, 10, 64, 4).next()
    counts = torch.bincount(ids[:, 0], minlength=4)
    assert counts.min() >= 8


def test_ranks_share_the_batch_that_one_process_would_see() -> None:
    alone = loader()
    pair = [loader(Ranks(rank, 2)) for rank in range(2)]
    for _ in range(50):
        parts = [torch.stack(each.next()) for each in pair]
        assert torch.equal(torch.stack(alone.next()), torch.cat(parts, dim=1))


def test_a_batch_that_does_not_divide_is_refused() -> None:
    with pytest.raises(BadConfig, match="multiple of 3"):
        loader(Ranks(0, 3))


def test_the_position_is_the_whole_state() -> None:
    first = loader()
    for _ in range(40):
        first.next()
    second = loader()
    second.position = first.position
    assert all(torch.equal(first.next()[0], second.next()[0]) for _ in range(40))
    assert torch.equal(first.peek()[0], first.next()[0])


def test_seeds_differ() -> None:
    assert not torch.equal(loader(seed=1).next()[0], loader(seed=2).next()[0])


def test_a_batch_may_be_larger_than_a_pass() -> None:
    ids, _ = loader(batch=200).next()
    assert len(ids) == 200


def test_less_text_than_a_window_is_refused() -> None:
    with pytest.raises(BadData, match="too little text"):
        Loader([np.zeros(16, np.uint16)] * 9, 16, 1, 8)


def test_a_token_outside_the_vocabulary_is_named_with_its_place() -> None:
    shard = np.array([1, 2, 3, 4, 5, 32, 1, 1, 1], np.uint16)
    with pytest.raises(BadData, match="found token 32 at position 5 of shard 0"):
        Loader([shard], 8, 1, 32).next()


def test_batches_prepared_ahead_by_a_thread_are_the_same() -> None:
    plain, ahead = loader(), loader()
    ahead._pool = ThreadPoolExecutor(1)  # as on a GPU
    for _ in range(9):
        assert all(torch.equal(a, b) for a, b in zip(plain.next(), ahead.next(), strict=True))
    plain.position = ahead.position = 4  # what was prepared is not what is asked for
    assert all(torch.equal(a, b) for a, b in zip(plain.next(), ahead.next(), strict=True))
