"""The code stays readable where that can be counted; `python -m tests.count_style` prints the counts."""

from __future__ import annotations

import pytest

from tests.count_style import CEILINGS, Place, count


@pytest.fixture(scope="module")
def counts() -> dict[str, list[Place]]:
    return count()


@pytest.mark.parametrize("name", CEILINGS)
def test_no_count_is_above_its_ceiling(counts: dict[str, list[Place]], name: str) -> None:
    places = counts[name]
    assert len(places) <= CEILINGS[name], "\n".join(map(str, places))
