"""Restored sources define the names that their originals reach."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.squeeze.bundle.reachable import OPTIONS, compared

RECORD = Path(__file__).parent / "programs" / "record.txt"
PROGRAM = """
import os, sys
LIMIT = 3
unread = os.getcwd

def used(x): return helper(x) + LIMIT
def helper(x):
    global made
    made = x
    return x
def unused(): return unread
class Kind:
    def reached(self): return used(1)
    def not_reached(self): return sys
print(Kind().reached(), made)
"""


@pytest.mark.parametrize("options", OPTIONS)
def test_names_that_are_not_reached_go_and_no_others(tmp_path: Path, options: str) -> None:
    (tmp_path / "main.py").write_text(PROGRAM)
    names = compared(tmp_path / "main.py", OPTIONS[options])
    assert names.same
    assert names.original - names.bundled - names.settled == {"os", "sys", "unread", "unused"}


def test_names_of_a_record_style_script_stay(tmp_path: Path) -> None:
    (tmp_path / "train_gpt.py").write_text(RECORD.read_text().partition("\n")[2])
    for options in OPTIONS.values():
        names = compared(tmp_path / "train_gpt.py", options)
        assert names.same and len(names.bundled) > 10
