"""Non-overlapping windows: every target once, sums against a plain loop."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from squeeze.errors import BadCheckpoint, BadData
from squeeze.score.tokenizer import ByteTable
from squeeze.score.window import Score, score_windows
from squeeze.train.config import ModelConfig
from squeeze.train.model import GPT

CONFIG = ModelConfig(50, 2, 16, 2, 1, 16, seq_len=8)
TABLE = ByteTable(
    np.arange(50, dtype=np.int32) % 5,
    np.arange(50) % 3 == 0,
    np.arange(50) == 1,
)


def model() -> GPT:
    random = np.random.default_rng(0)
    shapes = CONFIG.parameter_shapes().items()
    return GPT.from_tensors(
        CONFIG, {name: random.normal(0, 0.5, shape).astype(np.float32) for name, shape in shapes}
    )


def plain_score(gpt: GPT, tokens: np.ndarray, seq_len: int) -> tuple[float, int]:
    """Nats and bytes, one target at a time."""
    nats, size = 0.0, 0
    for i in range(1, len(tokens)):
        start = (i - 1) // seq_len * seq_len
        with torch.no_grad():
            logits = gpt(torch.from_numpy(tokens[None, start:i].astype(np.int64)))[0, -1].double()
        nats -= float(torch.log_softmax(logits, -1)[int(tokens[i])])
        size += int(TABLE.base[tokens[i]])
        if TABLE.space[tokens[i]] and not TABLE.boundary[tokens[i - 1]]:
            size += 1
    return nats, size


@given(st.integers(2, 40), st.integers(1, 12), st.integers(1, 4), st.integers(0, 9))
def test_windows_sum_what_a_plain_loop_sums(
    length: int, seq_len: int, batch: int, seed: int
) -> None:
    tokens = np.random.default_rng(seed).integers(2, 50, length).astype(np.uint16)
    tokens[-1] = 4  # never a text of zero bytes
    score = score_windows(model(), tokens, TABLE, seq_len, batch)
    nats, size = plain_score(model(), tokens, seq_len)
    assert score.tokens == length - 1
    assert score.bytes == size
    assert score.nats == pytest.approx(nats, rel=1e-5)


def test_bits_per_byte_divides_once_at_the_end() -> None:
    score = Score(nats=math.log(2) * 300, tokens=100, bytes=150, seconds=0.0)
    assert score.bpb == pytest.approx(2.0)
    assert score.nats_per_token == pytest.approx(3 * math.log(2))


def test_progress_counts_every_target_once() -> None:
    tokens = np.full(36, 4, np.uint16)
    seen: list[tuple[int, int]] = []
    score_windows(model(), tokens, TABLE, 8, 2, lambda done, total: seen.append((done, total)))
    assert seen == [(16, 35), (32, 35), (35, 35)]


@pytest.mark.parametrize(
    ("tokens", "message"),
    [
        ([], "nothing to score"),
        ([4], "nothing to score"),
        ([4, 49, 50, 4], "expected tokens below 50, found token 50 at position 2"),
        ([5, 10, 10], "stand for no text"),
    ],
)
def test_tokens_that_cannot_be_scored_are_refused(tokens: list[int], message: str) -> None:
    with pytest.raises(BadData, match=message):
        score_windows(model(), np.array(tokens, np.uint16), TABLE, 8)


def test_a_tokenizer_of_another_vocabulary_is_refused_naming_both() -> None:
    other = ByteTable(TABLE.base[:40], TABLE.space[:40], TABLE.boundary[:40])
    with pytest.raises(BadData, match=r"model's 50 pieces.*found 40 pieces"):
        score_windows(model(), np.full(9, 4, np.uint16), other, 8)


def test_a_model_whose_loss_is_no_number_is_refused() -> None:
    broken = model()
    torch.nn.init.constant_(broken.tok_emb.weight, float("nan"))
    with pytest.raises(BadCheckpoint, match="not a number"):
        score_windows(broken, np.full(9, 4, np.uint16), TABLE, 8)
