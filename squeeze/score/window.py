"""Non-overlapping windows: the challenge's plain validation score.

Window w reads tokens[w·T : (w+1)·T] and predicts the token after each, so every token but the first
of the whole span is a target exactly once. The last window may be shorter.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F

from squeeze.errors import BadCheckpoint, BadData
from squeeze.score.tokenizer import ByteTable, Tokens
from squeeze.train.data import Batch, check_vocab
from squeeze.train.model import GPT

LOGIT_BYTES = 16 << 20  # logits of one batch; the fastest of 4, 16 and 64 MiB on a CPU


@dataclass(frozen=True)
class Score:
    """Sums over all targets. nats: float64 cross-entropy; tokens, bytes: counts; seconds: wallclock."""

    nats: float
    tokens: int
    bytes: int
    seconds: float

    @property
    def bpb(self) -> float:
        """Bits per byte of text, divided once at the end."""
        return self.nats / math.log(2.0) / self.bytes

    @property
    def nats_per_token(self) -> float:
        """Mean cross-entropy in nats."""
        return self.nats / self.tokens


def score_windows(
    model: GPT,
    tokens: Tokens,
    table: ByteTable,
    seq_len: int,
    batch: int | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> Score:
    """Score tokens uint16 [n]: n - 1 targets in windows of seq_len, `batch` windows at a time.

    on_progress(done, total) counts targets. The forward runs where the model's weights are, in their
    dtype. Raises BadData for tokens out of range or text of zero bytes, BadCheckpoint when the model
    gives a loss that is not a number.
    """
    vocab_size = model.config.vocab_size
    if len(tokens) < 2:
        raise BadData("nothing to score", expected="2 tokens or more", found=len(tokens))
    check_vocab(tokens, vocab_size)
    if len(table.base) != vocab_size:
        raise BadData(
            "tokenizer and model have different vocabularies",
            expected=f"a tokenizer of the model's {vocab_size} pieces",
            found=f"{len(table.base)} pieces",
            fix="Give the tokenizer the model was trained with.",
        )
    num_bytes = int(table.of_targets(tokens).sum(dtype=np.int64))
    if not num_bytes:
        raise BadData("the scored tokens stand for no text", found="0 bytes")
    started = time.perf_counter()
    batch = batch or max(1, LOGIT_BYTES // (4 * vocab_size * seq_len))
    device = next(model.parameters()).device
    total = len(tokens) - 1
    nats, done = 0.0, 0
    model.eval()
    with torch.inference_mode():
        for inputs, targets in _batches(tokens, seq_len, batch):
            ids = torch.from_numpy(inputs).to(device)
            losses = F.cross_entropy(
                model(ids).flatten(0, 1), torch.from_numpy(targets).to(device), reduction="none"
            )
            nats += float(losses.double().sum())
            done += len(targets)
            if on_progress is not None:
                on_progress(done, total)
    if not math.isfinite(nats):
        raise BadCheckpoint("the model's loss is not a number", found=nats)
    return Score(nats, total, num_bytes, time.perf_counter() - started)


def _batches(tokens: Tokens, seq_len: int, batch: int) -> Iterator[tuple[Batch, Batch]]:
    """Inputs int64 [b, t] and targets int64 [b·t]; full windows first, then the shorter last one."""
    total = len(tokens) - 1
    full = total - total % seq_len
    for start in range(0, full, batch * seq_len):
        stop = min(start + batch * seq_len, full)
        span = tokens[start : stop + 1].astype(np.int64)
        yield span[:-1].reshape(-1, seq_len), span[1:]
    if full < total:
        span = tokens[full:].astype(np.int64)
        yield span[None, :-1], span[1:]
