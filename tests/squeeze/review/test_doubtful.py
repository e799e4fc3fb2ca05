"""Papers that do not belong together: copied runs, scores of other files or bytes, chosen seeds."""

from __future__ import annotations

from dataclasses import replace

import pytest

from squeeze.errors import SqueezeError
from squeeze.review.findings import AGREES, FLAGGED
from squeeze.review.review import review
from tests.entries import SCRIPT, Log, make_entry

THREE = {f"train_seed{seed}.log": Log(seed, bpb=1.2 + seed / 1000) for seed in (1, 2, 3)}
MEAN = 1.202


def finding(folder, name):
    return next(row for row in review(folder).findings if row.id == name)


def test_one_run_under_three_seeds_is_told_by_its_clock(tmp_path):
    steps = "".join(f"step:{n}/99999 train_time:{n}0007ms\n" for n in range(20_001, 20_009))
    logs = {
        name: log.text().replace("stopping_early", steps + "stopping_early")
        for name, log in THREE.items()
    }
    row = finding(make_entry(tmp_path / "nine", logs, val_bpb=MEAN), "seeds")
    assert row.status == FLAGGED
    assert "train_seed1.log and train_seed2.log print the same times" in row.text
    logs |= {name: logs[name].replace("0007ms", f"000{name[10]}ms") for name in logs}
    assert finding(make_entry(tmp_path / "ten", logs, val_bpb=MEAN), "seeds").status == AGREES


@pytest.mark.parametrize("clock", ["train_time:{}.5s", "train_time: {}.5m", "train_time:{}ms"])
def test_seeds_that_run_at_one_speed_are_not_taken_for_copies(tmp_path, clock):
    steps = "".join(f"step:{n}/99999 {clock.format(n // 2501)}\n" for n in range(20_001, 20_009))
    logs = {
        name: log.text().replace("stopping_early", steps + "stopping_early")
        for name, log in THREE.items()
    }
    assert finding(make_entry(tmp_path / "nine", logs, val_bpb=MEAN), "seeds").status == AGREES


def test_a_seed_scored_by_other_bytes_is_flagged(tmp_path):
    logs = THREE | {"train_seed3.log": Log(3, bpb=1.203, nats=2.5)}
    row = finding(make_entry(tmp_path / "nine", logs, val_bpb=MEAN), "score")
    assert row.status == FLAGGED and "bytes a token" in row.text and "train_seed3.log" in row.text


@pytest.mark.parametrize("name", ["pre-quantization post-ema", "DIAGNOSTIC post_ema", "prequant"])
def test_a_score_of_weights_before_they_are_rounded_is_flagged(tmp_path, name):
    before = f"{name} val_loss:1.83333333 val_bpb:1.10000000\n"
    folder = make_entry(tmp_path / "nine", {"train.log": before + Log().text()}, val_bpb=1.1)
    row = finding(folder, "score")
    assert row.status == FLAGGED and f"{name} is no score of the file that ships" in row.text
    folder = make_entry(tmp_path / "ten", {"train.log": before + Log().text()})
    assert finding(folder, "score").status == AGREES


def test_the_best_of_three_is_flagged_though_each_script_spells_its_seed(tmp_path):
    logs = {name: replace(log, code=len(SCRIPT) + log.seed) for name, log in THREE.items()}
    row = finding(make_entry(tmp_path / "nine", logs, val_bpb=1.201), "score")
    assert row.status == FLAGGED and "one of 3 logs" in row.text


def test_the_mean_of_two_seeds_is_theirs_though_an_ablation_lies_beside(tmp_path):
    other = Log(9, bpb=1.1, code=4321, settings={"matrix_lr": 1, "num_layers": 3})
    logs = {name: THREE[name] for name in ("train_seed1.log", "train_seed2.log")}
    folder = make_entry(tmp_path / "nine", logs | {"ablation/run_a.log": other}, val_bpb=1.2015)
    assert review(folder).flagged == []
    assert "is the mean of 2 logs" in finding(folder, "score").text


@pytest.mark.parametrize("name", ["eval_time", "total_eval_time", "evaluation_time"])
def test_an_evaluation_over_600_seconds_is_flagged_in_every_spelling(tmp_path, name):
    log = Log().text() + f"{name}:733.1s\n"
    row = finding(make_entry(tmp_path / "nine", {"train.log": log}), "clock")
    assert row.status == FLAGGED and "733.1 s of evaluation" in row.text


def test_a_log_that_windows_wrote_is_read(tmp_path):
    folder = make_entry(tmp_path / "nine")
    for encoding in ("utf-16", "utf-8-sig"):
        (folder / "train.log").write_bytes(Log().text().encode(encoding))
        assert review(folder).flagged == []


@pytest.mark.parametrize(
    ("loss", "status"),
    [(2.00333, AGREES), (2.00167, AGREES), (2.0028, FLAGGED), (1.99123, FLAGGED)],
)
def test_a_stated_loss_is_that_of_the_stated_score_or_of_one_seed(tmp_path, loss, status):
    row = finding(make_entry(tmp_path / "nine", THREE, val_bpb=MEAN, val_loss=loss), "score")
    assert row.status == status
    assert (f"val_loss {loss}, that of this score is 2.003333" in row.text) == (status == FLAGGED)


@pytest.mark.parametrize("final", [True, False])
def test_a_score_within_training_is_none_of_the_file_that_ships(tmp_path, final):
    last = "step:9999/9999 val_loss:1.9000 val_bpb:1.1234 train_time:590000ms\n"
    text = last + (Log().text() if final else "Serialized model int8+zlib: 1000 bytes\n")
    row = finding(make_entry(tmp_path / "nine", {"train.log": text}, val_bpb=1.1234), "score")
    assert row.status == FLAGGED and "1.1234" in row.text
    assert "has it at its last step, of weights before they are rounded" in row.text


def test_a_folder_of_submissions_is_none(tmp_path):
    for name in ("one", "two"):
        make_entry(tmp_path / "track" / name)
    with pytest.raises(SqueezeError, match="2 folders with a submission"):
        review(tmp_path / "track")
    make_entry(tmp_path / "track")  # one that keeps others below it
    assert review(tmp_path / "track").folder.claims


@pytest.mark.parametrize("line", ["val_bpb: {}", "final ttt val_bpb={} (9 s)", '"val_bpb": {}'])
def test_a_score_without_its_loss_is_a_score_where_no_other_is_stated(tmp_path, line):
    logs = {
        name: log.text() + line.format(f"{1.1 + log.seed / 1000:.6f}") + "\n"
        for name, log in THREE.items()
    }
    row = finding(make_entry(tmp_path / "nine", logs, val_bpb=1.102, val_loss=None), "score")
    assert row.status == AGREES and "1.102 is the mean of 3 logs" in row.text
    assert finding(make_entry(tmp_path / "ten", logs, val_bpb=MEAN), "score").status == AGREES
    alone = {"train.log": line.format("1.234567") + "\n"}
    row = finding(make_entry(tmp_path / "two", alone, val_bpb=1.234567), "score")
    assert row.status == AGREES
    row = finding(make_entry(tmp_path / "six", alone, val_bpb=1.2), "score")
    assert row.status == FLAGGED and "1.234567 over 1" in row.text
