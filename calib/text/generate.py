"""Calibration text that the model writes itself: batched sampling behind a key/value cache.

Record entries calibrate on 64 sequences × 2,048 tokens at temperature 0.8, first token uniform
(#1019, #1204), each rank repeating the whole work without a cache. Here one step costs one token per
sequence, and ranks write different sequences.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from squeeze.calib.parallel import lender, map_single_threaded
from squeeze.errors import BadCheckpoint, BadConfig
from squeeze.ranks.group import Ranks
from squeeze.reporter import SILENT, Reporter

Tokens = npt.NDArray[np.uint16]

TEMPERATURE = 1.2  # errors are weighed best on text more varied than the model's own: docs/log.md
BATCH = 64  # sequences in memory at a time
LANE = 32  # sequences that one CPU thread writes at a time: fewer read the weights too often


class StepCache(Protocol):
    """Key/value cache of a model, such as `squeeze.train.model.cache.Cache`."""

    device: torch.device

    def step(self, ids: Tensor) -> Tensor:
        """Return the logits [B, t, V] after each of ids int64 [B, t]."""

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
    reporter: Reporter = SILENT,
) -> Tokens:
    """Return `count` sampled sequences of `length` tokens, uint16 [count, length], alike on every rank.

    new_cache: makes an empty cache of (batch, length), as `functools.partial(Cache, model)` does
    seed: 0 … 2⁶⁴ − 1
    temperature: divisor of the logits
    batch: sequences in memory at a time, at most
    reporter: counts the tokens of this rank

    Sequence i draws its numbers from its own stream (seed, i), so it does not depend on the batch it is
    in, up to a rounding of the logits that tips a draw within about 1e-6 of an edge. Ranks and threads
    take batches of one size, which on a CPU depends on neither number.

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
    lend = lender(lambda: new_cache(together, length))

    def write(start: int, stage: Reporter) -> Tensor:
        # sequences past count are dropped: one shape for all batches
        numbers = torch.from_numpy(uniforms(seed, range(start, start + together), length))
        with lend() as cache:
            cache.reset_()
            return _sample(cache, numbers, vocab_size, temperature, stage)

    tokens = torch.zeros(count + together, length, dtype=torch.int32, device=device)
    most = max(1, batch // together)
    with reporter.stage("calibration text", total, "tokens") as stage:
        batches = map_single_threaded(lambda start: write(start, stage), starts, device, most)
        for start, written in zip(starts, batches, strict=True):
            tokens[start : start + together] = written.to(tokens.dtype)
    return ranks.summed_(tokens)[:count].cpu().numpy().astype(np.uint16)


def _together(count: int, world: int, batch: int, device: torch.device) -> int:
    """Return the number of sequences written side by side: on a CPU few enough for two threads."""
    if device.type == "cpu":
        batch, world = min(batch, LANE, -(-count // 2)), 1
    rounds = -(-count // (batch * world))
    return -(-count // (rounds * world))


def uniforms(seed: int, sequences: range, length: int) -> npt.NDArray[np.float64]:
    """Return numbers in [0, 1), float64 [len(sequences), length], row i counter-based on (seed, i)."""
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
    stage: Reporter,
) -> Tensor:
    """Return tokens int64 [B, T] for numbers float64 [B, T].

    The first token of each sequence is uniform, the others are drawn by the inverse distribution.
    """
    batch, length = numbers.shape
    numbers = numbers.to(cache.device)
    tokens = torch.empty(batch, length, dtype=torch.int64, device=cache.device)
    tokens[:, 0] = (numbers[:, 0] * vocab_size).long()
    # One flag read at the end: reading it at every step would stall a GPU.
    finite = torch.ones(batch, dtype=torch.bool, device=cache.device)
    stage.advance(batch)
    for at in range(1, length):
        logits = cache.step(tokens[:, at - 1 : at])[:, 0]
        # float64: draws must not hang on the rounding of a sum over thousands of tokens
        edges = torch.softmax(logits.double() / temperature, dim=-1).cumsum(-1)
        total = edges[:, -1:]
        finite &= total.isfinite()[:, 0]
        drawn = torch.searchsorted(edges, numbers[:, at : at + 1] * total, right=True)
        tokens[:, at] = drawn[:, 0].clamp_(max=vocab_size - 1)
        stage.advance(batch)
    if not bool(finite.all()):
        raise BadCheckpoint(
            "the model's logits are not numbers",
            expected="finite logits",
            found=f"NaN or infinity in {int((~finite).sum())} of {batch} generated sequences",
        )
    return tokens
