"""The command line's reporter, and the one that keeps notes on their way to it."""

from __future__ import annotations

import io
import os
import pty
import subprocess
import sys
import time
from pathlib import Path

import pytest

from squeeze.cli.bars import Bars
from squeeze.reporter import NoteKeeper
from tests.recorder import Recorder, Stage

ROOT = Path(__file__).parents[3]


def test_a_trial_shows_the_room_it_has_where_that_is_known(
    capsys: pytest.CaptureFixture[str],
) -> None:
    for bars in (Bars(), Bars(limit=12_000), Bars(quiet=True, limit=12_000)):
        with bars, bars.stage("fit") as stage:
            stage.trial(0.00012345, 11_999)
    assert capsys.readouterr().err.splitlines() == [
        "scale 0.000123: 11,999 bytes",
        "scale 0.000123: 11,999 bytes of 12,000",
    ]


def test_trials_that_look_alike_have_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    with Bars(limit=115_000) as bars, bars.stage("fit") as stage:
        for scale, size in ((7.502e-06, 116_079), (7.498e-06, 109_352), (7.499e-06, 109_352)):
            stage.trial(scale, size)
    assert len(capsys.readouterr().err.splitlines()) == 2


def test_a_note_keeper_keeps_notes_of_inner_stages_and_passes_everything_on() -> None:
    recorder = Recorder()
    keeper = NoteKeeper(recorder)
    keeper.note("first")
    with keeper.stage("outer", 3, "rows") as outer, outer.stage("inner") as inner:
        inner.note("second")
        inner.trial(0.5, 7)
        inner.advance(2)
    assert keeper.notes == recorder.notes == ["first", "second"]
    assert recorder.trials == [(0.5, 7)]
    assert recorder.stages == [Stage("outer", 3, "rows"), Stage("inner", None, "", [2])]


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def test_a_stage_of_unknown_length_shows_no_question_mark(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = Terminal()
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setattr("sys.stderr", drawn)
    with Bars() as bars:
        with bars.stage("bundle"):
            time.sleep(0.15)
        with bars.stage("fit") as stage:
            stage.trial(0.5, 9)
            time.sleep(0.15)
        with bars.stage("scoring", 2048, "targets") as stage:
            stage.advance(512)
            time.sleep(0.15)
    text = drawn.getvalue()
    assert "bundle" in text and "0/?" not in text and "?" not in text.replace("\x1b[?25", "")
    assert "1 trials" in text
    assert "512/2,048 targets" in text


def test_a_slow_command_says_something_before_it_loads_torch() -> None:
    """Under a pseudo-terminal, torch being hidden: the line comes before the import that fails."""
    hidden = {"PYTHONPATH": str(ROOT / "tests" / "without"), "WITHOUT": "torch"}
    command = [sys.executable, "-m", "squeeze", "pack", "m.pt", "-o", "m.sqz"]
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        command, stderr=theirs, stdout=theirs, env=os.environ | hidden
    ) as process:
        process.wait()
    os.close(theirs)
    text = os.read(ours, 1 << 16).decode()
    os.close(ours)
    assert text.splitlines()[0] == "pack: loading …"
    assert "needs torch" in text
