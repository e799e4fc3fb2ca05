"""The audit's rules that read papers: clock, seeds and size of folders as entrants hand them in."""

from __future__ import annotations

import json
import socket
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from squeeze.score.audit.evidence import AuditOptions, Evidence
from squeeze.score.audit.machine import lacking
from squeeze.score.audit.report import Audit
from squeeze.score.audit.rules import judge
from squeeze.score.audit.rules_folder import clock, network, seeds, size
from squeeze.score.audit.submission import load_submission
from squeeze.score.audit.verdict import FAIL, PASS, UNKNOWN
from squeeze.score.box.sandbox import Isolation
from tests.entries import Log, make_entry


class NoData:
    """Stands for validation data that no rule of papers looks at."""

    span = (0, 0)
    available = 1


def evidence(folder: Path, failure: str | None = None) -> Evidence:
    """Return what is known of a folder that did not answer."""
    isolation = Isolation("namespaces", user_namespace=False)
    data: Any = NoData()
    return Evidence(load_submission(folder), data, isolation, AuditOptions(), failure)


def stated(folder: Path, **fields: Any) -> Evidence:
    return evidence(make_entry(folder, {}, **fields))


TRAIN = {"stage": "train", "seconds": 590.0, "inside": True, "reads": "train"}


@pytest.mark.parametrize(
    ("stage", "status"),
    [
        ({}, PASS),
        ({"seconds": "9.5"}, FAIL),  # inside as well, and over
        ({"seconds": -8500}, FAIL),
        ({"seconds": True}, FAIL),
        ({"seconds": "long"}, FAIL),
        ({"inside": "false"}, FAIL),
        ({"inside": False, "stage": "validation", "reads": "validation"}, PASS),
        ({"inside": False, "stage": "validation", "reads": "train"}, FAIL),
        ({"inside": False, "stage": "validation", "reads": "validation", "updates": True}, FAIL),
        ({"inside": False, "stage": "pack", "reads": "nothing"}, PASS),
        ({"inside": False, "stage": "warm-up", "reads": "nothing", "updates": True}, FAIL),
    ],
)
def test_stages_of_a_clock_are_numbers_and_learn_inside_only(
    tmp_path: Path, stage: dict[str, Any], status: str
) -> None:
    rows = [TRAIN, {**TRAIN, "seconds": 9.0, "stage": "average"} | stage]
    if stage.get("seconds") == "9.5":
        rows.append({**TRAIN, "seconds": "1"})
    assert clock(stated(tmp_path / "nine", clock=rows)).status == status


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1" + "0" * 400, '"many"'])
@pytest.mark.parametrize("field", ["training_seconds", "bytes_total"])
def test_a_stated_number_that_is_none_fails_its_rule(
    tmp_path: Path, field: str, number: str
) -> None:
    folder = make_entry(tmp_path / "nine", {}, **{field: 0})
    path = folder / "submission.json"
    path.write_text(path.read_text().replace(f'"{field}": 0', f'"{field}": {number}'))
    rule = clock if field == "training_seconds" else size
    assert rule(evidence(folder)).status == FAIL


def test_nan_seconds_of_a_stage_fail(tmp_path: Path) -> None:
    rows = [{**TRAIN, "seconds": float("nan")}]
    assert clock(stated(tmp_path / "nine", clock=rows)).status == FAIL


def test_bytes_spelled_as_text_count(tmp_path: Path) -> None:
    verdict = size(stated(tmp_path / "nine", bytes_total="12"))
    assert verdict.status == FAIL and "counts only 12" in verdict.evidence


@pytest.mark.parametrize("name", ["train.log", "train0.txt", "logs/s1.txt"])
@pytest.mark.parametrize(
    ("timer", "milliseconds", "status"),
    [
        ("train_time: {}ms", 588_047, PASS),
        ("train_time:{}ms", 600_110, PASS),
        ("train_time: {}ms", 610_000, FAIL),
    ],
)
def test_timers_of_any_log_are_held_to_the_limit(
    tmp_path: Path, name: str, timer: str, milliseconds: float, status: str
) -> None:
    log = Log(timer=timer, milliseconds=milliseconds)
    assert clock(evidence(make_entry(tmp_path / "nine", {name: log}))).status == status


def test_a_log_without_a_timer_is_not_checkable(tmp_path: Path) -> None:
    assert clock(stated(tmp_path / "nine")).status == UNKNOWN


def test_a_timer_repeated_20_000_times_costs_no_more_than_its_length(tmp_path: Path) -> None:
    folder = make_entry(tmp_path / "nine", {"train.log": "train_time:1ms " * 20_000})
    began = time.process_time()
    assert clock(evidence(folder)).status == PASS
    assert time.process_time() - began < 2


def test_seeds_in_json_do_not_hide_logs(tmp_path: Path) -> None:
    logs = {"1.log": Log(1, 1.2), "2.log": replace(Log(2, 1.3), settings={"matrix_lr": 0.9})}
    verdict = seeds(evidence(make_entry(tmp_path / "nine", logs, seeds=[1, 2], val_bpb=1.25)))
    assert verdict.status == FAIL and "matrix_lr" in verdict.evidence


@pytest.mark.parametrize(
    ("second", "status"), [(Log(2, 1.3), PASS), (Log(1, 1.2), UNKNOWN), (Log(1, 1.3), FAIL)]
)
def test_a_log_that_is_there_twice_is_no_second_seed(
    tmp_path: Path, second: Log, status: str
) -> None:
    folder = make_entry(tmp_path / "nine", {"1.log": Log(1, 1.2), "2.log": second}, val_bpb=None)
    assert seeds(evidence(folder)).status == status


def test_a_folder_without_a_model_that_did_not_run_is_judged_by_its_papers(tmp_path: Path) -> None:
    verdict = size(evidence(make_entry(tmp_path / "nine"), "ended early"))
    assert verdict.status == UNKNOWN
    assert verdict.evidence.startswith("no model here; nothing can be said of the limit")
    over = make_entry(tmp_path / "over", {"train.log": Log(model=16_000_000)})
    assert size(evidence(over, "ended early")).status == FAIL


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({}, "bytes in 2 files"),
        ({"scorer": None}, "bytes in 2 files"),
        ({"scorer": ["python", "\ud800"]}, "bytes in 2 files"),
        ({"bytes_total": [1]}, "bytes_total of submission.json is no number"),
    ],
)
def test_papers_of_a_folder_that_never_answered_do_not_count(
    tmp_path: Path, fields: dict[str, Any], words: str
) -> None:
    folder = make_entry(tmp_path / "nine")
    (folder / "submission.json").write_text(json.dumps({"bytes_total": 16_000} | fields))
    (folder / "model.npz").write_bytes(bytes(15_000))
    (folder / "README.md").write_text("a paper " * 1000)
    verdict = size(evidence(folder, "ended early"))
    assert words in verdict.evidence and (verdict.status == PASS) is ("files" in words)


@pytest.mark.parametrize(
    ("words", "lack"),
    [
        ("RuntimeError: CUDA is required", "no CUDA device"),
        ("AssertionError: Torch not compiled with CUDA enabled", "no CUDA device"),
        ("ModuleNotFoundError: No module named 'flash_attn_interface'", "no module flash_attn"),
        ("ModuleNotFoundError: No module named 'brotli.x'", "no module brotli"),
        ("ModuleNotFoundError: No module named 'helper'", None),
        ("SyntaxError: f-string: expecting '}'", "Python 3"),
        ("OSError: libcuda.so.1: cannot open shared object file", "no CUDA device"),
        (
            "sandbox: [Errno 2] No such file or directory: '/usr/bin/julia'",
            "no program julia",
        ),
        ("sandbox: [Errno 2] No such file or directory: './score'", None),
        ("OSError: libx.so: cannot open shared object file", "no library"),
        ("KeyError: 'weights'", None),
        ("nothing on stderr", None),
    ],
)
def test_what_the_machine_lacks_is_named_and_not_blamed(words: str, lack: str | None) -> None:
    named = lacking(f"the submission ended early with exit code 1; found {words}", {"helper.py": 1})
    assert named is None if lack is None else lack in (named or "")


def test_a_folder_that_this_machine_cannot_run_keeps_the_verdicts_of_its_papers(
    tmp_path: Path,
) -> None:
    logs = {"1.log": Log(1, 1.2), "2.log": Log(2, 1.3, milliseconds=700_000)}
    failure = "report: the submission ended early; found RuntimeError: CUDA is required"
    known = evidence(make_entry(tmp_path / "nine", logs, val_bpb=1.25), failure)
    result = Audit(known, judge(known), 0.0)
    assert not result.was_run and result.failures == ["clock"]
    told = [name for name, verdict in result.verdicts.items() if verdict.status != UNKNOWN]
    assert told == ["clock", "seeds"]
    assert "no CUDA device" in result.verdicts["runs"].evidence


def test_nothing_is_said_of_files_and_network_where_nothing_answered(tmp_path: Path) -> None:
    failure = "distributions: the submission ended early with exit code 0; found nothing on stderr"
    verdicts = judge(evidence(make_entry(tmp_path / "nine"), failure))
    assert verdicts["runs"].status == FAIL
    for name in ("files", "network"):
        assert verdicts[name].status == UNKNOWN
        assert verdicts[name].evidence == "it ended before its first answer"


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("", PASS),  # any address of this machine: how a free port is found
        (socket.gethostname(), PASS),
        ("127.0.0.1", PASS),
        ("::", PASS),
        ("weights.invalid", FAIL),
        ("localhost.weights.invalid", FAIL),
        ("127.weights.invalid", FAIL),
        ("192.0.2.1", FAIL),
    ],
)
def test_the_machine_itself_is_no_network(tmp_path: Path, host: str, status: str) -> None:
    known = stated(tmp_path / "nine")
    known.network = [f"socket.bind {host}"]
    assert network(known).status == status


def test_text_of_a_submission_is_text_in_the_markdown_of_an_audit(tmp_path: Path) -> None:
    failure = "found \x1b[31m a|b \\| <img> @name *x* [y](https://z) `c`"
    known = evidence(make_entry(tmp_path / "nine"), failure)
    markdown = Audit(known, judge(known), 0.0).markdown()
    assert not any(raw in markdown for raw in ("\x1b", "<img>", "@name", " *x*", " [y]", "://"))
    assert "- network: none: a network namespace without interfaces\n" in markdown
    rows = [line.replace("\\\\", "").replace("\\|", "") for line in markdown.splitlines()]
    assert {row.count("|") for row in rows if row.startswith("|")} == {4}


def test_claims_are_read_once_and_stay_plain(tmp_path: Path) -> None:
    known = stated(tmp_path / "nine", clock=[TRAIN])
    assert json.loads(json.dumps(known.submission.claims))["clock"] == [TRAIN]
