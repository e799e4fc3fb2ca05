"""Calibration text that the model writes itself: batched sampling behind a key/value cache.

Record entries calibrate on 64 sequences × 2,048 tokens at temperature 0.8, first token uniform
(#1019, #1204), each rank repeating the whole work without a cache. Here one step costs one token per
sequence, and ranks write different sequences.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from squeeze.calib.parallel import lender, map_single_threaded
from squeeze.errors import BadCheckpoint, BadConfig
from squeeze.ranks.group import Ranks

Tokens = npt.NDArray[np.uint16]
Progress = Callable[[int, int, float], None]

TEMPERATURE = 1.2  # errors are weighed best on text more varied than the model's own: docs/log.md
BATCH = 64  # sequences in memory at a time
LANE = 32  # sequences that one CPU thread writes at a time: fewer read the weights too often


class StepCache(Protocol):
    """What sampling needs of `squeeze.train.model.cache.Cache`."""

    device: torch.device

    def step(self, ids: Tensor) -> Tensor:
        """Logits [B, t, V] after each of ids [B, t]."""

    def reset_(self) -> None:
        """Forget everything."""


NewCache = Callable[[int, int], StepCache]


def generate(
    new_cache: NewCache,
    vocab_size: int,
    count: int,
    length: int,
    *,
    seed: int = 0,
    temperature: float = TEMPERATURE,
    batch: int = BATCH,
    on_progress: Progress | None = None,
) -> Tokens:
    """Sample `count` sequences of `length` tokens: uint16 [count, length], the same on every rank.

    new_cache(batch, length) makes an empty cache: `functools.partial(Cache, model)`. Sequence i draws
    its numbers from its own stream (seed, i), so it does not depend on the batch it is in nor on the
    number of ranks, up to a rounding of the logits that tips a draw lying within about 1e-6 of an
    edge. At most `batch` sequences are in memory at a time. They go round the ranks and the threads in
    batches of one size, which the number of threads has no part in.
    on_progress(done, total, tokens per second) counts this rank's tokens, from any thread.

    Raises BadConfig for values out of range, BadCheckpoint when the model's logits are not numbers.
    """
    for name, value in (("count", count), ("length", length), ("batch", batch)):
        if value < 1:
            raise BadConfig(f"generation {name}", expected="at least 1", found=value)
    if not 0 <= seed < 1 << 64:
        raise BadConfig("generation seed", expected="0..2⁶⁴ − 1", found=seed)
    if not 0.0 < temperature < math.inf:
        raise BadConfig("temperature", expected="a finite number above zero", found=temperature)
    if not 1 <= vocab_size <= 1 << 16:
        raise BadConfig("vocabulary", expected="1..65536 tokens", found=vocab_size)
    ranks = Ranks.current()
    device = new_cache(1, 1).device
    together = _together(count, ranks.world, batch, device)
    starts = ranks.deal(range(0, count, together))
    total = len(starts) * together * length
    report = None if on_progress is None else _reporter(total, on_progress)
    lend = lender(lambda: new_cache(together, length))

    def write(start: int) -> Tensor:
        # sequences past count are dropped: one shape for all batches
        numbers = torch.from_numpy(uniforms(seed, range(start, start + together), length))
        with lend() as cache:
            cache.reset_()
            return _sample(cache, numbers, vocab_size, temperature, report)

    tokens = torch.zeros(count + together, length, dtype=torch.int32, device=device)
    most = max(1, batch // together)
    for start, written in zip(
        starts, map_single_threaded(write, starts, device, most), strict=True
    ):
        tokens[start : start + together] = written.to(tokens.dtype)
    return ranks.summed_(tokens)[:count].cpu().numpy().astype(np.uint16)


def _together(count: int, world: int, batch: int, device: torch.device) -> int:
    """Return how many sequences are written side by side: on a CPU so few that two threads get some."""
    if device.type == "cpu":
        batch = min(batch, LANE, -(-count // max(2, world)))
    rounds = -(-count // (batch * world))
    return -(-count // (rounds * world))


def uniforms(seed: int, sequences: range, length: int) -> npt.NDArray[np.float64]:
    """Numbers in [0, 1), float64 [len(sequences), length]; row i is counter-based on (seed, i)."""
    rows = np.empty((len(sequences), length))
    for row, sequence in zip(rows, sequences, strict=True):
        key = np.array([seed, sequence], dtype=np.uint64)
        np.random.Generator(np.random.Philox(key=key)).random(out=row)
    return rows


@torch.inference_mode()
def _sample(
    cache: StepCache,
    numbers: Tensor,
    vocab_size: int,
    temperature: float,
    report: Callable[[int], None] | None,
) -> Tensor:
    """Tokens int64 [B, T] for numbers float64 [B, T]: the first uniform, the rest by inverse CDF."""
    batch, length = numbers.shape
    numbers = numbers.to(cache.device)
    tokens = torch.empty(batch, length, dtype=torch.int64, device=cache.device)
    tokens[:, 0] = (numbers[:, 0] * vocab_size).long()
    # One flag read at the end: looking at every step would stall a GPU.
    finite = torch.ones(batch, dtype=torch.bool, device=cache.device)
    if report is not None:
        report(batch)
    for at in range(1, length):
        logits = cache.step(tokens[:, at - 1 : at])[:, 0]
        # float64: draws must not hang on the rounding of a sum over thousands of tokens
        edges = torch.softmax(logits.double() / temperature, dim=-1).cumsum(-1)
        total = edges[:, -1:]
        finite &= total.isfinite()[:, 0]
        drawn = torch.searchsorted(edges, numbers[:, at : at + 1] * total, right=True)
        tokens[:, at] = drawn[:, 0].clamp_(max=vocab_size - 1)
        if report is not None:
            report(batch)
    if not bool(finite.all()):
        raise BadCheckpoint(
            "the model's logits are not numbers",
            expected="finite logits",
            found=f"NaN or infinity in {int((~finite).sum())} of {batch} generated sequences",
        )
    return tokens


def _reporter(total: int, on_progress: Progress) -> Callable[[int], None]:
    started, done, lock = time.perf_counter(), 0, threading.Lock()

    def report(count: int) -> None:
        nonlocal done
        with lock:
            done += count
            on_progress(done, total, done / max(time.perf_counter() - started, 1e-9))

    return report
