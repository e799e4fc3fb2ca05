"""The picture of a run: its loss, its schedule, and from when on something was switched on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from squeeze.train.run.plot import plot_log, switches

RECIPE = {
    "recurrence_start": 0.3,
    "recurrence_step": 5,
    "qat_start": 0.8,
    "average": "ema",
    "average_start": 0.5,
    "warmdown": 0.4,
}
BEGIN: dict[str, Any] = {"recipe": RECIPE, "config": {"layer_schedule": [0, 1, 0, 1]}}
STEPS = [{"step": n, "loss": 5.0 - n / 10, "progress": n / 10, "rate": 1.0} for n in range(1, 11)]


def test_a_mark_stands_at_the_first_step_that_something_holds_for() -> None:
    # a step begins at the progress of the one before
    assert switches(BEGIN, STEPS) == [
        (6, "averaging"),
        (6, "recurrence"),
        (7, "warm-down"),
        (9, "rounding (qat)"),
    ]


def test_what_is_on_from_the_start_or_never_is_no_switch() -> None:
    off = {"recurrence_start": 0.0, "qat_start": 1.0, "average": "none", "warmdown": 1.0}
    assert switches({"recipe": off, "config": BEGIN["config"]}, STEPS) == []
    assert switches({}, STEPS) == []  # a log of something else


def test_the_picture_has_marks_and_the_validation_loss(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    log = tmp_path / "run.jsonl"
    lines = [{"event": "begin", **BEGIN}, *STEPS, {"event": "end", "val_loss": 4.25}]
    log.write_text("".join(json.dumps(line) + "\n" for line in lines))
    svg, png = plot_log(log)
    drawn = svg.read_text(encoding="utf-8")
    for words in ("averaging", "recurrence", "warm-down", "rounding (qat)", "validation, 4.250000"):
        assert f"<!-- {words} -->" in drawn
    assert png.stat().st_size > 10_000
