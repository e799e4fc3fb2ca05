"""The review of a folder by its papers: each finding flagged where it must be, and only there."""

from __future__ import annotations

import json
import time
from dataclasses import replace

import pytest

from squeeze.errors import SqueezeError
from squeeze.review.claims import read_claims
from squeeze.review.findings import AGREES, FLAGGED, UNTOLD
from squeeze.review.markdown import as_markdown
from squeeze.review.review import review
from tests.entries import SCRIPT, Log, make_entry

THREE = {f"train_seed{seed}.log": Log(seed, bpb=1.2 + seed / 1000) for seed in (1, 2, 3)}
MEAN = 1.202


def finding(folder, name, **options):
    return next(row for row in review(folder, **options).findings if row.id == name)


def test_an_honest_folder_has_nothing_flagged(tmp_path):
    result = review(make_entry(tmp_path / "nine", THREE, val_bpb=MEAN))
    assert result.flagged == []
    assert [row.id for row in result.findings if row.status == UNTOLD] == ["parent"]


@pytest.mark.parametrize(
    ("stated", "status", "said"),
    [
        ({"val_bpb_std": 0.001}, AGREES, "0.001 is the sample's of the logs"),
        ({"std_val_loss_nats": 0.00167}, AGREES, "0.00167 is the sample's of the logs"),
        ({"val_bpb_std": 0.00082}, AGREES, "the population's of the logs (over n); the sample's"),
        ({"val_loss_std": 0.00136083}, AGREES, "(over n - 1) is 0.00166667"),
        ({"val_bpb_std": 0.0009}, FLAGGED, "that of the logs is 0.001000 (over n: 0.000816)"),
        ({"val_bpb_std": None}, AGREES, ""),
        ({"parent_bpb_std": 0.5}, AGREES, ""),
    ],
)
def test_a_stated_deviation_is_the_sample_s_or_the_population_s(tmp_path, stated, status, said):
    row = finding(make_entry(tmp_path / "nine", THREE, val_bpb=MEAN, **stated), "score")
    assert row.status == status and said in row.text


def test_a_deviation_of_seeds_that_are_stated_to_fewer_digits_agrees(tmp_path):
    seeds = {str(seed): {"val_bpb": round(1.2 + seed / 3000, 3)} for seed in (1, 2, 3)}
    logs = {f"train_seed{seed}.log": Log(seed, bpb=1.2 + seed / 3000) for seed in (1, 2, 3)}
    stated = {"val_bpb": 1.201, "val_bpb_std": 0.0006, "seed_results": seeds}
    row = finding(make_entry(tmp_path / "nine", logs, **stated), "score")
    assert row.status == AGREES and "of the stated seeds" in row.text


def test_model_in_the_log_and_code_on_disk_make_the_total(tmp_path):
    row = finding(make_entry(tmp_path / "nine"), "bytes")
    assert row.status == AGREES
    assert row.data == {"total": 15_000_000 + len(SCRIPT), "model": 15_000_000, "code": len(SCRIPT)}


def test_code_that_ships_but_is_not_counted_is_over_the_limit(tmp_path):
    folder = make_entry(
        tmp_path / "nine",
        {"train.log": Log(model=15_999_000)},
        {"helper.py": "#" * 2000, "train_gpt.py": "import helper\n", "unused.py": "#" * 9999},
    )
    row = finding(folder, "bytes")
    assert row.status == FLAGGED and "over by 1,014" in row.text and "unused.py" not in row.text


@pytest.mark.parametrize(
    "script",
    [
        'exec(open("inner.py").read())',
        "from pack.inner import main",
        'import os; os.system(f"g++ -O3 {here}/inner.py")\nx = "./inner.py"',
        'match x:\n case inner: f"{"inner.py"}" !',  # of another Python than this one
    ],
)
def test_files_that_a_script_names_count_as_code(tmp_path, script):
    files = {"train_gpt.py": script, "inner.py": "import deep\n", "deep.py": "x = 1\n"}
    row = finding(make_entry(tmp_path / "nine", files=files), "bytes")
    assert row.data["code"] == sum(map(len, files.values()))


def test_another_code_size_than_the_file_is_flagged(tmp_path):
    folder = make_entry(tmp_path / "nine", {"train.log": Log(code=4000)}, bytes_code=5000)
    row = finding(folder, "code")
    assert row.status == FLAGGED and "4,000" in row.text and "5,000" in row.text


@pytest.mark.parametrize(
    "stated",
    [
        {"bytes_total": 14_000_000},
        {"bytes_total": None, "artifact_bytes": 14_000_000},
        {"bytes_total": None, "artifact_size_bytes": 14_000_000},
        {"bytes_total": None, "total_bytes": 14_000_000},
        {"bytes_total": None, "artifact_bytes_mean": 14_000_000},
        {"bytes_total": None, "artifact_bytes_max": 14_000_000},
        {"bytes_total": None, "submissionBytes": "14,000,000"},
        {"bytes_total": 17_000_000},
    ],
)
def test_other_bytes_than_the_logs_are_flagged_in_every_spelling(tmp_path, stated):
    assert finding(make_entry(tmp_path / "nine", **stated), "stated-bytes").status == FLAGGED


def test_bytes_stated_for_a_seed_are_those_of_its_log(tmp_path):
    rows = {str(seed): {"val_bpb": 1.2 + seed / 1000, "artifact_bytes": 15e6} for seed in (1, 2, 3)}
    row = finding(
        make_entry(tmp_path / "nine", THREE, val_bpb=MEAN, seed_results=rows), "stated-bytes"
    )
    assert row.status == FLAGGED and "seed 2" in row.text


@pytest.mark.parametrize(
    ("stated", "status"),
    [
        ({"val_bpb": MEAN}, AGREES),
        ({"val_bpb": 1.20}, AGREES),
        ({"val_bpb": 1.201}, FLAGGED),  # the best of three
        ({"val_bpb": 1.19}, FLAGGED),
        ({"val_bpb": None, "val_bpb_mean": MEAN}, AGREES),
        ({"val_bpb": 1.201, "mean_val_bpb": MEAN}, AGREES),
        ({"val_bpb": MEAN, "seeds": [1, 2, 3]}, AGREES),
        ({"val_bpb": MEAN, "seeds": [1, 2, 3, 4]}, FLAGGED),
        ({"val_bpb": MEAN, "seeds": {"1": 1.201, "2": {"val_bpb": 1.202}}}, AGREES),
        ({"val_bpb": 1.1, "seed_results": {"1": {"val_bpb": 1.1}, "2": {"val_bpb": 1.1}}}, FLAGGED),
        ({"val_bpb": 1.201, "seeds": [{"seed": 1, "val_bpb": 1.201}]}, AGREES),
        ({"val_bpb": None, "val_loss": 1.2}, FLAGGED),
    ],
)
def test_the_stated_score_is_the_mean_of_the_logs_or_flagged(tmp_path, stated, status):
    assert finding(make_entry(tmp_path / "nine", THREE, **stated), "score").status == status


def test_a_score_in_the_log_of_another_seed_is_flagged(tmp_path):
    rows = {"1": {"val_bpb": 1.201}, "9": {"val_bpb": 1.203}}
    folder = make_entry(tmp_path / "nine", THREE, val_bpb=MEAN, seed_results=rows)
    assert "seed 9 is in train_seed3.log" in finding(folder, "score").text


@pytest.mark.parametrize(
    ("log", "status"),
    [
        (Log(milliseconds=600_110, step=10_000), AGREES),  # two steps of 60 ms
        (Log(milliseconds=600_300, step=10_000), FLAGGED),
        (Log(milliseconds=588_047, timer="train_time: {}ms"), AGREES),
        (Log(milliseconds=700_000, timer="train_time: {}ms"), FLAGGED),
        (Log(milliseconds=601.0, timer="train_time:{}s"), FLAGGED),
    ],
)
def test_a_timer_may_end_two_steps_beyond_the_limit(tmp_path, log, status):
    for name in ("train.log", "logs/train0.txt"):
        folder = make_entry(tmp_path / name.replace("/", "-"), {name: log})
        assert finding(folder, "clock").status == status


def test_steps_said_to_be_long_do_not_stretch_the_limit(tmp_path):
    text = Log(milliseconds=650_000).text().replace("step_avg:60.00ms", "step_avg:90000.00ms")
    assert finding(make_entry(tmp_path / "nine", {"train.log": text}), "clock").status == FLAGGED


def test_no_record_is_asked_for_600_seconds(tmp_path):
    logs = {"train.log": Log(milliseconds=14_400_000)}
    folder = make_entry(tmp_path / "nine", logs, track="non-record-unlimited-compute-16mb")
    assert finding(folder, "clock").status == AGREES


def test_seeds_of_different_configurations_are_flagged(tmp_path):
    logs = THREE | {
        "train_seed3.log": replace(THREE["train_seed3.log"], settings={"matrix_lr": 0.05})
    }
    row = finding(make_entry(tmp_path / "nine", logs, val_bpb=MEAN), "seeds")
    assert row.status == FLAGGED and "matrix_lr 0.04 / 0.05" in row.text


def test_logs_of_other_experiments_are_no_seeds(tmp_path):
    other = Log(bpb=1.5, settings={"matrix_lr": 0.5})
    row = finding(
        make_entry(tmp_path / "nine", {"train.log": Log(), "ablation.log": other}), "seeds"
    )
    assert row.status == AGREES and "1 logged runs are no part" in row.text


def test_a_log_named_for_another_seed_than_it_prints_is_flagged(tmp_path):
    logs = {"train_seed1.log": Log(1, bpb=1.1), "train_seed2.log": Log(1, bpb=1.3)}
    row = finding(make_entry(tmp_path / "nine", logs), "seeds")
    assert row.status == FLAGGED and "train_seed2.log prints seed 1" in row.text


def test_one_log_under_two_seeds_is_flagged(tmp_path):
    logs = {"a.log": Log(1), "b.log": Log(2)}
    row = finding(make_entry(tmp_path / "nine", logs), "seeds")
    assert row.status == FLAGGED and "same scores" in row.text


def test_a_log_that_is_there_twice_is_one_seed(tmp_path):
    row = finding(
        make_entry(tmp_path / "nine", {"train.log": Log(), "train_seed1.log": Log()}), "seeds"
    )
    assert row.status == AGREES and row.text.startswith("1 seed: 1")


def test_the_parent_is_compared_by_the_rule_of_the_challenge(tmp_path):
    make_entry(tmp_path / "eight", {f"{s}.log": Log(s, 1.25 + s / 1e4, 2.1) for s in (1, 2, 3)})
    logs = {f"{s}.log": Log(s, 1.2 + s / 1e4, 2.0 + s / 1e4) for s in (1, 2, 3)}
    folder = make_entry(tmp_path / "nine", logs, val_bpb=1.2002, base_submission="eight (PR #8)")
    row = finding(folder, "parent")
    assert row.status == AGREES and "-0.05" in row.text and "rule: passes" in row.text
    worse = review(tmp_path / "eight", parent=folder)
    assert "parent" in worse.flagged


def test_what_the_challenge_asks_for_is_missed(tmp_path):
    folder = make_entry(
        tmp_path / "nine", {}, {"train_gpt.py": "", "README.md": ""}, github_id=None
    )
    text = finding(folder, "papers").text
    for lack in ("no README.md", "no github_id", "no training log", "train_gpt.py is empty"):
        assert lack in text


def test_a_folder_of_one_log_and_a_folder_of_nothing_are_reviewed(tmp_path):
    (tmp_path / "log").mkdir()
    (tmp_path / "log" / "train.log").write_text(Log(model=16_200_000).text())
    assert "bytes" in review(tmp_path / "log").flagged
    (tmp_path / "nothing").mkdir()
    assert review(tmp_path / "nothing").flagged == ["papers", "score"]
    with pytest.raises(SqueezeError, match="cannot be reviewed"):
        review(tmp_path / "log" / "train.log")


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ('{"val_bpb": NaN}', "val_bpb is NaN, no number"),
        ('{"val_bpb": -Infinity}', "val_bpb is -Infinity, no number"),
        ('{"bytes_total": 1' + "0" * 400 + "}", "no number"),
        ('{"val_bpb": 1e999}', "no number"),
        ('{"bytes_total": "15,000,000"}', "bytes_total is text: 15,000,000"),
        ('{"val_bpb": 1.2, "val_bpb": 1.1}', "stated twice: val_bpb"),
        ("[" * 100_000, "not JSON"),
        ("[1]", "no JSON object"),
        ("{", "not JSON"),
    ],
)
def test_values_that_are_no_numbers_are_faults_and_no_traceback(text, fault):
    read = read_claims("submission.json", text.encode())
    assert any(fault in each for each in read.faults)


def test_text_of_a_submission_is_neither_a_command_nor_markup(tmp_path):
    name = "a\x1b[2J|*@me* <img src=x> [x](http://y).log"
    text = Log().text().replace("final_int8", "\x1b[31m|final`")
    result = review(make_entry(tmp_path / "nine|*x*", {name.replace("/", "-"): text}))
    printed = "".join(row.text for row in result.findings)
    assert "\x1b" not in printed
    markdown = result.markdown()
    assert "\x1b" not in markdown and "@" not in markdown and "<img" not in markdown
    rows = [line for line in markdown.splitlines() if line.startswith("|")]
    assert {line.replace("\\|", "").count("|") for line in rows} == {4}


def test_a_backslash_does_not_open_a_cell():
    assert as_markdown("a\\|b") == "a\\\\\\|b"


def test_a_review_is_plain_json_and_takes_little_time(tmp_path):
    began = time.process_time()
    result = review(make_entry(tmp_path / "nine", THREE, val_bpb=MEAN))
    assert time.process_time() - began < 1
    assert json.loads(json.dumps(result.as_json()))["flagged"] == []


def test_logs_that_count_several_sizes_of_code_are_flagged(tmp_path):
    logs = THREE | {"train_seed3.log": replace(THREE["train_seed3.log"], code=4321)}
    row = finding(make_entry(tmp_path / "nine", logs, val_bpb=MEAN), "seeds")
    assert row.status == FLAGGED and "4,321 in train_seed3.log" in row.text


def test_logs_that_only_evaluate_leave_bytes_and_times_to_those_that_trained(tmp_path):
    evaluated = "seed:1\nttt val_loss:1.9 val_bpb:1.1 eval_time:9ms\n"
    logs = {"ttt/seed_1.log": evaluated, "train_seed1.log": Log(model=16_000_000, milliseconds=9e5)}
    seeds = {"1": {"val_bpb": 1.1}}
    stated = {"val_bpb": 1.1, "val_loss": 1.9, "seed_results": seeds}
    result = review(make_entry(tmp_path / "nine", logs, **stated))
    assert {"bytes", "clock"} <= set(result.flagged) and "score" not in result.flagged


@pytest.mark.parametrize("name", ["final_model.int8.ptz", "model.npz", "codes.pkl"])
def test_a_model_that_is_there_counts_as_it_lies_on_disk(tmp_path, name):
    script = f'load("{name}")'
    folder = make_entry(tmp_path / "nine", {"train.log": Log(model=1000)}, {"train_gpt.py": script})
    (folder / name).write_bytes(bytes(1000))
    (folder / "other.pt").write_bytes(bytes(5000))
    row = finding(folder, "bytes")
    assert row.data == {"total": 1000 + len(script), "model": 1000, "code": len(script)}
    (folder / name).write_bytes(bytes(1001))
    row = finding(folder, "bytes")
    assert row.status == FLAGGED and "no log tells these bytes but 1,000" in row.text


def test_a_score_among_the_results_is_the_stated_one(tmp_path):
    folder = make_entry(tmp_path / "nine", val_bpb=None, results={"val_bpb": 1.2, "seed": 1})
    assert finding(folder, "score").text.startswith("results.val_bpb 1.2")
