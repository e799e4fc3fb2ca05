"""The command line's reporter, and the one that keeps notes on their way to it."""

from __future__ import annotations

import pytest

from squeeze.cli.bars import Bars
from squeeze.reporter import NoteKeeper
from tests.recorder import Recorder, Stage


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
