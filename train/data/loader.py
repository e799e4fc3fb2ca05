"""Batches from many shards in an order that needs no memory: coprime strides.

A pass over the data visits every window of every shard once. Window number k of a pass of n windows
is (start + k·stride) mod n with stride coprime to n, over the shards laid end to end: neighbours in
the order lie far apart, so a batch mixes shards, and the whole state of the loader is how many windows
were given out. Each pass has its own start, stride and offset of the windows in their shards. Shards
are memory-mapped: 80 shards of 100M tokens cost no memory. Source: the loaders of the record entries.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from squeeze.errors import BadConfig, BadData
from squeeze.ranks.group import Ranks
from squeeze.train.data.shards import Batch, Tokens

AHEAD = 2  # batches that wait for a GPU


@dataclass(frozen=True)
class Pass:
    """The order of one pass: window number k is (start + k·stride) mod windows.

    offset: tokens skipped at each shard's start
    firsts: number of windows before each shard, int64 [shards + 1]
    """

    offset: int
    start: int
    stride: int
    firsts: Batch

    @property
    def windows(self) -> int:
        """Number of windows in the pass."""
        return int(self.firsts[-1])


class Order:
    """The order of the windows of all shards; equal for equal lengths, window and seed.

    lengths: tokens of each shard
    seq_len: inputs of a window, which also holds the target after the last

    Raises BadData when no shard holds a window.
    """

    def __init__(self, lengths: Sequence[int], seq_len: int, seed: int) -> None:
        self.lengths = np.array(lengths, np.int64)
        self.seq_len, self.seed = seq_len, seed
        # every pass, whatever its offset, has windows: offsets stay below what the longest can spare
        longest = int(self.lengths.max(initial=0))
        if longest <= seq_len:
            raise BadData(
                "too little text to train on",
                expected=f"more than the window of {seq_len} tokens",
                found=f"{longest} tokens in the longest shard",
                fix="Give more data or a smaller seq_len.",
            )
        self.offsets = min(seq_len, longest - seq_len)
        self._passes = [self._make(0)]
        self._ends = [self._passes[0].windows]

    def windows(self, position: int, count: int) -> tuple[Batch, Batch]:
        """Return (shard, first token), int64 [count] each, of the windows position, position + 1, …"""
        while self._ends[-1] < position + count:
            self._passes.append(self._make(len(self._passes)))
            self._ends.append(self._ends[-1] + self._passes[-1].windows)
        shards, tokens = [], []
        while count:
            number = int(np.searchsorted(self._ends, position, side="right"))
            order = self._passes[number]
            take = min(count, self._ends[number] - position)
            first = position - (self._ends[number] - order.windows)
            window = (order.start + np.arange(first, first + take) * order.stride) % order.windows
            shard = np.searchsorted(order.firsts, window, side="right") - 1
            shards.append(shard)
            tokens.append(order.offset + (window - order.firsts[shard]) * self.seq_len)
            position, count = position + take, count - take
        return np.concatenate(shards), np.concatenate(tokens)

    def _make(self, number: int) -> Pass:
        random = np.random.default_rng((self.seed, number))
        offset = int(random.integers(self.offsets))
        counts = np.maximum(0, (self.lengths - 1 - offset) // self.seq_len)
        firsts = np.concatenate([[0], np.cumsum(counts)])
        windows = int(firsts[-1])
        # between a quarter and three quarters: neither neighbours nor opposite ends follow each other
        stride = int(random.integers(max(1, windows // 4), max(2, 3 * windows // 4)))
        while math.gcd(stride, windows) != 1:
            stride += 1
        return Pass(offset, int(random.integers(windows)), stride, firsts)


class Loader:
    """Endless batches of one rank: ids and targets int64 [rows, seq_len] on the rank's device.

    Each rank gets its share of the same global batch, so that the number of ranks does not change what
    is learnt. On a GPU the next AHEAD batches are prepared by a thread in pinned memory and copied
    without waiting.

    position: windows dealt out so far, of all ranks

    Raises BadConfig for a batch that does not divide among the ranks, BadData for a token outside the
    vocabulary.
    """

    def __init__(
        self,
        shards: Sequence[Tokens],
        seq_len: int,
        batch: int,
        vocab_size: int,
        seed: int = 0,
        ranks: Ranks = Ranks(),  # noqa: B008  frozen
    ) -> None:
        self.shards, self.seq_len, self.batch = shards, seq_len, batch
        self.vocab_size = vocab_size
        self.order = Order([len(shard) for shard in shards], seq_len, seed)
        self.rows = _share(batch, ranks)
        self.device = ranks.device
        self.position = 0  # windows given out, of all ranks
        self._steps = np.arange(seq_len + 1)
        self._pool = ThreadPoolExecutor(1) if self.device.type == "cuda" else None
        self._ahead: dict[int, Future[Tensor]] = {}  # by position

    def next(self) -> tuple[Tensor, Tensor]:
        """Return this rank's part of the next batch."""
        return on_device(self.take(), self.device)

    def take(self) -> Tensor:
        """Return this rank's rows of the next batch, inputs and last target, int64 [rows, seq_len + 1].

        They lie in the memory of the CPU, pinned for a GPU; `on_device` makes ids and targets of them.
        """
        position, self.position = self.position, self.position + self.batch
        if self._pool is None:
            return self._read(position)
        coming = range(position, position + (AHEAD + 1) * self.batch, self.batch)
        self._ahead = {
            at: self._ahead.get(at) or self._pool.submit(self._read, at) for at in coming
        }
        return self._ahead.pop(position).result()

    def peek(self) -> tuple[Tensor, Tensor]:
        """Return the batch that `next` is going to return, without taking it."""
        return on_device(self._read(self.position), self.device)

    def _read(self, position: int) -> Tensor:
        shards, starts = self.order.windows(
            position + self.rows.start, self.rows.stop - self.rows.start
        )
        rows = np.empty((len(starts), self.seq_len + 1), np.int64)
        for row, shard, start in zip(rows, shards, starts, strict=True):
            row[:] = self.shards[shard][start : start + self.seq_len + 1]
        if rows.max() >= self.vocab_size:
            row, column = np.argwhere(rows >= self.vocab_size)[0]
            raise BadData(
                "data holds a token outside the model's vocabulary",
                expected=f"tokens below {self.vocab_size}",
                found=f"token {rows[row, column]} at position {starts[row] + column} of shard "
                f"{shards[row]}",
                fix="Use shards made with the model's tokenizer.",
            )
        tokens = torch.from_numpy(rows)
        return tokens.pin_memory() if self.device.type == "cuda" else tokens


def on_device(rows: Tensor, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return ids and targets int64 [rows, seq_len] of rows [rows, seq_len + 1], on a device."""
    rows = rows.to(device, non_blocking=True)
    return rows[:, :-1].contiguous(), rows[:, 1:].contiguous()


def _share(batch: int, ranks: Ranks) -> slice:
    """Return this rank's part of a batch of windows; raises BadConfig when it does not divide evenly."""
    each, rest = divmod(batch, ranks.world)
    if rest:
        raise BadConfig(
            f"{batch} sequences a step do not divide among the ranks",
            expected=f"a multiple of {ranks.world}",
            found=batch,
            fix="Change batch_tokens.",
        )
    return slice(ranks.rank * each, (ranks.rank + 1) * each)
