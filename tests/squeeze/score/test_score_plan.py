"""Plans of windows: every output once, with the context its mode promises."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from squeeze.errors import BadConfig, RuleBroken
from squeeze.score.plan import Plan, document_spans, sample_documents, sliding, spans

BOS = 1


def windows(plan: Plan) -> list[tuple[int, int, int]]:
    return list(zip(plan.start.tolist(), plan.first.tolist(), plan.stop.tolist(), strict=True))


def test_sliding_scores_the_first_window_whole_and_then_the_last_stride() -> None:
    plan = sliding(20, length=8, stride=3)
    assert windows(plan) == [(0, 0, 8), (3, 8, 11), (6, 11, 14), (9, 14, 17), (12, 17, 20)]


def test_the_tail_is_scored_once_and_keeps_its_context() -> None:
    assert windows(sliding(12, length=8, stride=3))[-1] == (6, 11, 12)


def test_a_stride_of_the_length_is_non_overlapping_windows() -> None:
    assert windows(sliding(20, length=8, stride=8)) == [(0, 0, 8), (8, 8, 16), (16, 16, 20)]


@given(st.integers(0, 60), st.integers(1, 12), st.integers(1, 12))
def test_every_output_is_scored_once(outputs: int, length: int, stride: int) -> None:
    plan = sliding(outputs, length, min(stride, length))
    assert plan.outputs == outputs
    assert plan.scored(outputs).all()
    assert np.all(plan.start <= plan.first) and np.all(plan.first < plan.stop)
    assert np.all(plan.stop - plan.start <= length)


def test_a_plan_that_scores_twice_is_refused_naming_the_place() -> None:
    plan = Plan(np.array([0, 2]), np.array([0, 4]), np.array([5, 8]))
    with pytest.raises(RuleBroken, match="token after position 4"):
        plan.scored(8)


@pytest.mark.parametrize("stride", [0, 9, -1])
def test_a_stride_that_is_no_stride_is_refused(stride: int) -> None:
    with pytest.raises(BadConfig, match="stride"):
        sliding(20, 8, stride)


@given(st.integers(1, 60), st.integers(1, 12), st.integers(1, 12), st.integers(1, 20))
def test_cutting_keeps_every_output_and_its_context(
    outputs: int, length: int, stride: int, every: int
) -> None:
    plan = sliding(outputs, length, min(stride, length))
    cut = plan.cut(every)
    assert np.array_equal(cut.first // every, (cut.stop - 1) // every)
    before, after = (
        {i: s for s, f, e in windows(p) for i in range(f, e)} for p in (plan, cut)
    )  # output -> start of what it sees
    assert before == after and cut.outputs == outputs


@given(st.lists(st.integers(1, 30), min_size=1, max_size=12), st.integers(1, 64), st.integers(1, 4))
def test_batches_hold_every_window_once_and_share_their_context_length(
    outputs: list[int], room: int, batch: int
) -> None:
    begin = np.cumsum([0, *outputs[:-1]])
    plan = spans(begin, np.array(outputs), 8, 3)
    for rows in (list(plan.batches(room)), list(plan.batches(room, batch))):
        assert sorted(np.concatenate(rows)) == list(range(len(plan)))
        assert all(len(set(plan.first[r] - plan.start[r])) == 1 for r in rows)
    widths = [plan.stop[r] - plan.start[r] for r in plan.batches(room)]
    assert all(len(w) == 1 or len(w) * w.max() <= room for w in widths)
    assert all(len(r) <= batch for r in plan.batches(room, batch))


def test_documents_begin_at_bos_and_a_span_may_begin_inside_one() -> None:
    tokens = np.array([7, 8, BOS, 5, 6, BOS, BOS, 9, 4], np.uint16)
    begin, outputs = document_spans(tokens, BOS)
    assert begin.tolist() == [0, 2, 5, 6]
    assert outputs.tolist() == [2, 3, 1, 2]
    assert spans(begin, outputs, 8, 2).scored(8).all()


def test_a_bos_at_the_very_end_is_a_document_without_outputs() -> None:
    begin, outputs = document_spans(np.array([BOS, 5, BOS], np.uint16), BOS)
    assert (begin.tolist(), outputs.tolist()) == ([0], [2])


def test_no_tokens_are_no_documents() -> None:
    assert document_spans(np.zeros(0, np.uint16), BOS)[0].tolist() == []


def test_sampled_documents_are_whole_distinct_and_seeded() -> None:
    tokens = np.array([7, *([BOS, 5, 6, 7] * 20)], np.uint16)
    begin, outputs = sample_documents(tokens, BOS, 5, seed=3)
    assert len(set(begin.tolist())) == 5 and begin.tolist() == sorted(begin)
    assert outputs.tolist() == [4] * 5
    again = sample_documents(tokens, BOS, 5, seed=3)[0]
    assert np.array_equal(begin, again)
    assert not np.array_equal(begin, sample_documents(tokens, BOS, 5, seed=4)[0])
    everything = sample_documents(tokens, BOS, 99, seed=3)[0]
    assert everything.tolist() == list(range(1, 77, 4))  # neither the part before nor the last
