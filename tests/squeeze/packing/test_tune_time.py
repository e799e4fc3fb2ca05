"""`--tune TIME`: the number of updates is found first, kept, reported, and gives the same file again."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner

from squeeze.artifact.container import parse
from squeeze.checkpoint.read import load_model
from squeeze.cli import cli
from squeeze.cli.parsing.values import Updates
from squeeze.errors import SqueezeError
from squeeze.packing import target
from squeeze.packing.calibrate import Calibration
from squeeze.packing.measured import Measured
from squeeze.packing.pack import pack_model
from squeeze.packing.packed import Packed
from squeeze.packing.plan import Plan
from squeeze.packing.request import PackRequest
from squeeze.packing.target import measured_cost
from squeeze.packing.tune import duration
from squeeze.packing.tune import pack as tuning
from squeeze.packing.tune.duration import Pace, kept_updates
from squeeze.packing.tune.student import Student
from squeeze.reporter import SILENT
from squeeze.train.model.config import ModelConfig
from tests.packs import Killed, write_trained

CONFIG = ModelConfig(256, 1, 32, 2, 1, 64, seq_len=32)
CALIBRATION = Calibration(tokens=512)
LIMIT = 4_500


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_trained(CONFIG, tmp_path_factory.mktemp("model") / "model.safetensors", 300)


@pytest.fixture(autouse=True)
def pace(monkeypatch: pytest.MonkeyPatch) -> list[Pace]:
    """A machine on which an update takes a second; every timing is counted."""
    timed: list[Pace] = []

    def slow(*arguments: object) -> Pace:
        timed.append(Pace(1.0, 0.0, 0.0, 1.0))
        return timed[-1]

    monkeypatch.setattr(tuning, "pace_of", slow)
    return timed


def pack(model: Path, cache: Path | None, tune: int | timedelta, fresh: bool = False) -> Packed:
    request = PackRequest(
        LIMIT, "tuned", calibration=CALIBRATION, cache=cache, tune=tune, fresh=fresh
    )
    return pack_model(load_model(model), request)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("500", 500),
        ("600s", timedelta(minutes=10)),
        ("10m", timedelta(minutes=10)),
        ("1.5h", timedelta(minutes=90)),
        ("0.5s", timedelta(milliseconds=500)),
    ],
)
def test_updates_are_a_number_or_a_time(text: str, value: object) -> None:
    assert Updates().convert(text, None, None) == value


@pytest.mark.parametrize(
    "text",
    [
        "0",
        "0s",
        "0.0000001s",
        "-5",
        "-5s",
        "",
        "s",
        "10x",
        "1e3",
        "5.5",
        "10 m",
        "nan",
        "infs",
        "٣s",
        "9" * 10,
    ],
)
def test_other_words_are_one_error(text: str) -> None:
    with pytest.raises(click.BadParameter, match="no number of updates"):
        Updates().convert(text, None, None)


def test_the_command_refuses_a_bad_time_in_one_line(model: Path, tmp_path: Path) -> None:
    arguments = ["pack", str(model), "-o", str(tmp_path / "m.sqz"), "--preset", "tuned"]
    done = CliRunner().invoke(cli, [*arguments, "--tune", "soon"])
    assert done.exit_code == 2 and "'soon' is no number of updates (500)" in done.output
    assert not list(tmp_path.iterdir())


def test_the_number_fills_the_time_and_leaves_some_for_what_is_slower() -> None:
    pace = Pace(update=1.0, answer=0.5, answered=64, rounding=30.0)
    for seconds in (60.0, 120.0, 600.0):
        updates = pace.updates_within(seconds)
        assert pace.seconds_of(updates) <= duration.USED * seconds < pace.seconds_of(updates + 1)
    assert pace.updates_within(600.0) == 0.95 * 600 - 30 - 32
    assert replace(pace, answered=float("inf")).updates_within(600.0) == 360
    assert pace.updates_within(10.0) == 1


def test_the_number_is_reported_kept_and_gives_the_same_bytes(
    model: Path, tmp_path: Path, pace: list[Pace]
) -> None:
    packed = pack(model, tmp_path / "cache", timedelta(seconds=10))
    (note,) = (note for note in packed.notes if "gives the same file" in note)
    assert re.match(r"8 updates for 10 s: 1 s each here, and 1 s of rounding; --tune 8 gives", note)
    assert packed.plan is not None and packed.plan.tuning is not None
    assert packed.plan.tuning.updates == 8
    stored = Plan.load(tmp_path / "cache" / "plan.json")
    assert stored.tuning == packed.plan.tuning
    assert pack(model, None, 8).data == packed.data
    assert pack(model, tmp_path / "cache", timedelta(seconds=10)).data == packed.data
    assert len(pace) == 1
    other = pack(model, tmp_path / "cache", timedelta(seconds=6))
    assert other.plan is not None and other.plan.tuning is not None
    assert other.plan.tuning.updates == 4 and len(pace) == 2


def test_a_killed_pack_resumes_with_its_number_on_a_machine_of_another_pace(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = pack(model, tmp_path / "whole", timedelta(seconds=10))
    learn = Student.learn_

    def killed(self: Student, *arguments: object) -> object:
        monkeypatch.setattr(Student, "learn_", learn)
        raise Killed

    monkeypatch.setattr(Student, "learn_", killed)
    with pytest.raises(Killed):
        pack(model, tmp_path / "cache", timedelta(seconds=10))
    monkeypatch.setattr(tuning, "pace_of", lambda *_: Pace(0.1, 0.0, 0.0, 0.0))
    resumed = pack(model, tmp_path / "cache", timedelta(seconds=10))
    assert resumed.data == whole.data
    assert "8 updates, the number that was found before" in resumed.notes


def test_fresh_forgets_the_number_and_what_learnt(model: Path, tmp_path: Path) -> None:
    def said(packed: Packed) -> set[bool]:
        words = "gives the same file", "learnt with 1"
        return {any(word in note for note in packed.notes) for word in words}

    time = timedelta(seconds=10)
    assert said(pack(model, tmp_path, time)) == {True}
    assert said(pack(model, tmp_path, time)) == {False}
    assert said(pack(model, tmp_path, time, fresh=True)) == {True}


@pytest.mark.parametrize("text", ["", "{", "[]", '{"key": "k"}', '{"key": "k", "updates": "9"}'])
def test_a_damaged_number_is_found_again(text: str, tmp_path: Path) -> None:
    (tmp_path / "updates.json").write_text(text)
    assert kept_updates(tmp_path / "updates.json", "k", SILENT) is None


def test_too_short_a_time_is_said(model: Path) -> None:
    packed = pack(model, None, timedelta(seconds=1))
    (note,) = (note for note in packed.notes if "gives the same file" in note)
    assert note.startswith("1 update for 1 s, too short a time: ")


def test_the_pace_is_measured_and_nothing_learns_from_it(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured: list[Pace] = []

    def measure(student: Student, *others: Any) -> Pace:
        before = student.weights
        measured.append(duration.pace_of(student, *others))
        assert all((before[name] == values).all() for name, values in student.weights.items())
        return measured[-1]

    monkeypatch.setattr(tuning, "pace_of", measure)
    timed = pack(model, None, timedelta(seconds=1.5))
    (pace,) = measured
    # 12 of 16 sequences are learnt from, all of them in one batch
    assert pace.update > 1e-4 and pace.rounding > 0 and pace.answered == 1
    assert timed.plan is not None and timed.plan.tuning is not None
    assert pack(model, None, timed.plan.tuning.updates).data == timed.data


def test_the_report_says_what_the_seconds_bought(model: Path, tmp_path: Path) -> None:
    out = tmp_path / "m.sqz"
    arguments = [
        "pack",
        str(model),
        "-o",
        str(out),
        "--preset",
        "tuned",
        "--tune",
        "6",
        "--tokens",
        "512",
    ]
    arguments += ["--limit", str(LIMIT)]
    done = CliRunner().invoke(cli, arguments)
    assert done.exit_code == 0, done.output
    assert re.search(r"tuned: 6 updates in \d+ s: 0\.\d{6} → 0\.\d{6} nats per token", done.output)
    printed = json.loads(CliRunner().invoke(cli, [*arguments, "--json"]).stdout)
    assert printed["fit"]["tuning"]["updates"] == 6
    assert parse(out.read_bytes())


def test_the_cost_before_is_that_of_the_file_that_fits_and_is_not_tuned(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    costs: list[float] = []

    def measure(*arguments: Any) -> Measured:
        measured = measured_cost(*arguments)
        costs.append(measured.mean)
        return measured

    monkeypatch.setattr(tuning, "measured_cost", measure)
    monkeypatch.setattr(target, "measured_cost", measure)
    packed = pack(model, None, 6)
    assert packed.plan is not None and packed.plan.tuning is not None
    assert costs == [packed.plan.tuning.before, packed.plan.measured]


def test_seconds_of_a_resumed_pack_include_those_before(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: object) -> None:
        raise Killed

    def note() -> str:
        (tuned,) = (n for n in pack(model, tmp_path, 6).notes if n.startswith("tuned: "))
        return tuned

    with monkeypatch.context() as patched:
        patched.setattr(tuning.Finished, "keep", killed)
        with pytest.raises(Killed):
            pack(model, tmp_path, 6)
    path = tmp_path / "seconds.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"seconds": 1000.0}))
    assert "6 updates in 10" in note()
    assert "6 updates in 10" in note()  # of the pack that has ended
    path.write_text("{")
    assert "6 updates: " in note()


def test_a_plan_with_a_damaged_gain_is_refused(model: Path, tmp_path: Path) -> None:
    packed = pack(model, tmp_path, 1)
    assert packed.plan is not None
    facts = json.loads((tmp_path / "plan.json").read_text())
    for damaged in ({"updates": 1}, {"updates": "x", "before": 0.1}, 5):
        (tmp_path / "plan.json").write_text(json.dumps(facts | {"tuning": damaged}))
        with pytest.raises(SqueezeError, match="not a plan"):
            Plan.load(tmp_path / "plan.json")
