"""Non-overlapping windows: every target once, sums against a plain loop."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from squeeze.errors import BadCheckpoint, BadData, RuleBroken
from squeeze.score.plan import Plan, document_plan, document_spans, sliding
from squeeze.score.tokenizer import ByteTable, Text
from squeeze.score.window import Score, score_plan, score_windows
from squeeze.train.model.config import ModelConfig
from squeeze.train.model.gpt import GPT
from tests.recorder import Recorder, Stage

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
    score = score_windows(model(), Text(tokens, TABLE), seq_len, batch)
    nats, size = plain_score(model(), tokens, seq_len)
    assert score.tokens == length - 1
    assert score.bytes == size
    assert score.nats == pytest.approx(nats, rel=1e-5)


def plain_plan(gpt: GPT, tokens: np.ndarray, plan: Plan) -> dict[int, float]:
    """Nats of each scored target by its position, one output at a time."""
    nats = {}
    for start, first, stop in zip(plan.start, plan.first, plan.stop, strict=True):
        for i in range(first, stop):
            ids = torch.from_numpy(tokens[None, start : i + 1].astype(np.int64))
            with torch.no_grad():
                logits = gpt(ids)[0, -1].double()
            nats[i + 1] = -float(torch.log_softmax(logits, -1)[int(tokens[i + 1])])
    return nats


@settings(max_examples=15)
@given(
    st.integers(2, 30),
    st.integers(1, 12),
    st.integers(1, 12),
    st.sampled_from([None, 1, 3]),
    st.integers(0, 9),
)
def test_sliding_windows_sum_what_a_plain_loop_sums(
    length: int, seq_len: int, stride: int, batch: int | None, seed: int
) -> None:
    tokens = np.random.default_rng(seed).integers(2, 50, length).astype(np.uint16)
    tokens[-1] = 4
    plan = sliding(length - 1, seq_len, min(stride, seq_len))
    score = score_plan(model(), Text(tokens, TABLE), plan, batch=batch)
    assert score.tokens == length - 1
    assert score.nats == pytest.approx(sum(plain_plan(model(), tokens, plan).values()), rel=1e-5)


def test_sliding_by_the_whole_length_is_the_window_score_exactly() -> None:
    tokens = np.random.default_rng(5).integers(2, 50, 100).astype(np.uint16)
    windows = score_windows(model(), Text(tokens, TABLE), 8)
    slid = score_plan(model(), Text(tokens, TABLE), sliding(99, 8, 8))
    assert (slid.nats, slid.tokens, slid.bytes) == (windows.nats, windows.tokens, windows.bytes)


@settings(max_examples=15)
@given(st.integers(0, 9), st.integers(1, 8), st.sampled_from([None, 1, 4]))
def test_documents_see_only_themselves_and_their_ends_are_counted_apart(
    seed: int, stride: int, batch: int | None
) -> None:
    random = np.random.default_rng(seed)
    tokens = random.integers(2, 50, 40).astype(np.uint16)
    tokens[-1] = 4
    tokens[1 + random.choice(38, 6, replace=False)] = 1
    begin, outputs = document_spans(tokens, 1)
    plan = document_plan((begin, outputs), 8, stride, bos=1)
    score = score_plan(model(), Text(tokens, TABLE), plan, batch)
    nats = plain_plan(model(), tokens, plan)
    ends = [i for i in nats if tokens[i] == 1]
    assert len(nats) == 39 and len(ends) == 6
    assert (score.tokens, score.ends) == (33, 6)
    assert score.end_nats == pytest.approx(sum(nats[i] for i in ends), rel=1e-5)
    assert score.nats + score.end_nats == pytest.approx(sum(nats.values()), rel=1e-5)
    assert score.bytes == plain_score(model(), tokens, 40)[1]
    assert score.bpb_with_ends * score.bytes == pytest.approx(sum(nats.values()) / math.log(2))


def test_a_plan_that_scores_a_token_twice_is_refused() -> None:
    twice = Plan(np.array([0, 2]), np.array([0, 3]), np.array([4, 8]))
    with pytest.raises(RuleBroken, match="token after position 3"):
        score_plan(model(), Text(np.full(9, 4, np.uint16), TABLE), twice)


def test_bits_per_byte_divides_once_at_the_end() -> None:
    score = Score(nats=math.log(2) * 300, tokens=100, bytes=150, seconds=0.0)
    assert score.bpb == pytest.approx(2.0)
    assert score.nats_per_token == pytest.approx(3 * math.log(2))


def test_progress_counts_every_target_once() -> None:
    tokens = np.full(36, 4, np.uint16)
    recorder = Recorder()
    score_windows(model(), Text(tokens, TABLE), 8, 2, recorder)
    assert recorder.stages == [Stage("scoring", 35, "targets", [16, 16, 3])]


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
        score_windows(model(), Text(np.array(tokens, np.uint16), TABLE), 8)


def test_a_tokenizer_of_another_vocabulary_is_refused_naming_both() -> None:
    other = ByteTable(TABLE.base[:40], TABLE.space[:40], TABLE.boundary[:40])
    with pytest.raises(BadData, match=r"model's 50 pieces.*found 40 pieces"):
        score_windows(model(), Text(np.full(9, 4, np.uint16), other), 8)


def test_a_model_whose_loss_is_no_number_is_refused() -> None:
    broken = model()
    torch.nn.init.constant_(broken.tok_emb.weight, float("nan"))
    with pytest.raises(BadCheckpoint, match="not a number"):
        score_windows(broken, Text(np.full(9, 4, np.uint16), TABLE), 8)
