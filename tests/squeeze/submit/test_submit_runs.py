"""Runs of a submission's script: another score, and all the ways to fail."""

from __future__ import annotations

from pathlib import Path

import pytest

from squeeze.score.audit import Limits
from tests.squeeze.submit.bread import SCRIPT, refused, write


def test_a_script_with_another_score_is_refused_and_nothing_is_left(
    inputs: Path, tmp_path: Path
) -> None:
    wrong = tmp_path / "wrong.py"
    for old, new in {
        '"val_bpb:", nats': '"val_bpb:", 1e-5 + nats',
        "return (len(tokens) - 1) * np.log(V)": "return (len(tokens) - 1) * np.log(V - 1)",
    }.items():
        wrong.write_text(SCRIPT.replace(old, new))
        with refused("gives another score than squeeze eval"):
            write(inputs, tmp_path / "s", script=wrong)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["wrong.py"]


FAILING = {
    "an exception": ("raise ValueError('no bread')", "exit code 1; found ValueError: no bread"),
    "silence": ("pass", "prints no score"),
    "a word": ("print('val_bpb: good')", "prints no score"),
    "NaN": ("print('val_bpb: nan')", "gives another score"),
    "an end too early": ("import os; os._exit(7)", "exit code 7"),
    "no end": ("while True: print('x' * 1000)", "not done within 2 s"),
    "sleep": ("import time; time.sleep(60)", "not done within 2 s"),
    "squeeze": ("__import__('squeeze')", "No module named 'squeeze'"),
}


@pytest.mark.parametrize("name", FAILING)
def test_a_script_that_fails_is_one_clear_error(name: str, inputs: Path, tmp_path: Path) -> None:
    code, message = FAILING[name]
    (tmp_path / "bad.py").write_text(code)
    with refused(message):
        write(
            inputs, tmp_path / "s", script=tmp_path / "bad.py", scorer=None,
            limits=Limits(report_seconds=2.0),
        )  # fmt: skip
    assert not (tmp_path / "s").exists()
