"""Limits on the bytes of a file, and on its growth."""

import json

import pytest

from squeeze.errors import OverBudget, SqueezeError
from squeeze.ledger.gate import check_limit, gate, growth


def test_a_total_over_the_limit_says_by_how_much_and_what_would_help():
    check_limit(1000, 1000)
    with pytest.raises(OverBudget, match="over the limit by 1,001 bytes") as error:
        check_limit(2001, 1000, fix="Buy more.")
    assert "2,001" in str(error.value) and "Buy more." in str(error.value)


@pytest.mark.parametrize(("text", "room"), [("1%", 10), ("0", 0), ("2.5%", 25), ("4096", 4096)])
def test_growth_is_a_share_or_bytes(text, room):
    assert growth(1000, text) == room


@pytest.mark.parametrize("text", ["", "%", "-1%", "nan", "1e99", "a lot"])
def test_growth_that_is_neither_is_refused(text):
    with pytest.raises(SqueezeError, match="growth"):
        growth(1000, text)


def test_gate_remembers_totals_by_commit_and_fails_on_growth(tmp_path):
    base = tmp_path / "sizes.json"
    gate(base, 1000, None, "one")
    gate(base, 1009, "1%", "two")
    with pytest.raises(OverBudget, match="grew by 91 bytes"):
        gate(base, 1100, "1%", "three")
    assert json.loads(base.read_text()) == {"one": 1000, "two": 1009}
    gate(base, 1005, "1%", "two")  # a commit measured again is compared with the one before it
    assert json.loads(base.read_text())["two"] == 1005


@pytest.mark.parametrize(
    "text", ["", "[1]", '{"a": "b"}', '{"a": -1}', "[" * 100_000, '{"a": 1.5}']
)
def test_a_damaged_base_file_is_named(tmp_path, text):
    base = tmp_path / "sizes.json"
    base.write_text(text)
    with pytest.raises(SqueezeError, match=r"not totals by commit|not JSON|nested"):
        gate(base, 1, "1%", None)
