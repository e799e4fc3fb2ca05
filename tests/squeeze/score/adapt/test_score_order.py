"""The ledger of test-time training: scored first, used afterwards; who does otherwise is named."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from squeeze.errors import RuleBroken
from squeeze.score.adapt.order import OrderLedger, check_order


def test_chunks_scored_and_then_used_pass() -> None:
    ledger = OrderLedger(10)
    ledger.give(np.array([0]))
    for begin in (1, 4, 7):
        ledger.score(np.arange(begin, begin + 3))
        ledger.use(np.arange(begin + 3))
    assert ledger.check() == {"updates": 3, "scored": 9, "used": 10, "given": 1}
    assert ledger.used_at.tolist() == [2, 2, 2, 2, 4, 4, 4, 6, 6, 6]


def test_an_update_on_the_next_chunk_is_caught_and_its_first_token_named() -> None:
    ledger = OrderLedger(8)
    ledger.score(np.arange(4))
    ledger.use(np.arange(2, 6))
    ledger.score(np.arange(4, 8))
    with pytest.raises(
        RuleBroken, match=r"token 4 used at tick 2, scored at tick 3.*2 tokens in all"
    ):
        ledger.check()


def test_a_token_used_and_never_scored_is_caught() -> None:
    ledger = OrderLedger(4)
    ledger.use(np.array([3]))
    with pytest.raises(RuleBroken, match="token 3 used at tick 1, never scored"):
        ledger.check()


def test_the_token_used_first_is_named_not_the_one_with_the_lowest_number() -> None:
    with pytest.raises(RuleBroken, match="token 2 used at tick 1"):
        check_order(np.array([9, 9, 9], np.int32), np.array([5, 0, 1], np.int32))


def test_a_token_scored_twice_is_caught() -> None:
    ledger = OrderLedger(4)
    ledger.score(np.array([0, 1]))
    with pytest.raises(RuleBroken, match=r"scored twice.*token 1 at tick 1 and again"):
        ledger.score(np.array([2, 1]))


def test_scoring_and_using_in_the_same_tick_is_too_late() -> None:
    with pytest.raises(RuleBroken):
        check_order(np.array([3], np.int32), np.array([3], np.int32))


def test_an_empty_ledger_passes() -> None:
    assert OrderLedger(0).check() == {"updates": 0, "scored": 0, "used": 0, "given": 0}


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), max_size=20))
def test_the_checker_agrees_with_a_plain_reading_of_the_rule(ticks: list[tuple[int, int]]) -> None:
    legal = all(used == 0 or 0 < scored < used for scored, used in ticks)
    scored_at = np.array([scored for scored, _ in ticks], np.int32)
    used_at = np.array([used for _, used in ticks], np.int32)
    if legal:
        check_order(scored_at, used_at)
    else:
        with pytest.raises(RuleBroken):
            check_order(scored_at, used_at)
