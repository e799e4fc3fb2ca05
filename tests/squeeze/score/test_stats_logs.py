"""`squeeze stats` of training logs and of folders that hold them."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from click.testing import CliRunner

from squeeze.cli.stats_cmd import command
from squeeze.errors import BadData
from squeeze.score.seeds.compare import compare, read_seeds
from tests.entries import Log, make_entry

OFFICIAL = {"matrix_lr": 0.04, "tokens": 62021632}


def entry(folder, bpb, **options):
    logs = {
        f"train_seed{seed}.log": Log(seed, bpb + seed / 1e4, 2 * bpb + seed / 1e4, **options)
        for seed in (1, 2, 3)
    }
    return make_entry(folder, logs, val_bpb=round(bpb + 2 / 1e4, 8))


def test_logs_and_their_folder_give_the_same_seeds(tmp_path):
    folder = entry(tmp_path / "nine", 1.2)
    from_logs = read_seeds(sorted(folder.glob("*.log")))
    assert from_logs.values("bpb") == pytest.approx([1.2001, 1.2002, 1.2003])
    assert read_seeds([folder]).values("nats_per_token") == from_logs.values("nats_per_token")
    assert from_logs.name == "final_int8_roundtrip_exact"


def test_a_stated_deviation_over_n_is_named(tmp_path):
    logs = {f"train_seed{seed}.log": Log(seed, 1.2 + seed / 1e3) for seed in (1, 2, 3)}
    for name, stated, notes in (("n", 0.00082, 1), ("n-1", 0.001, 0), ("neither", 0.0009, 1)):
        folder = make_entry(tmp_path / name, logs, val_bpb=1.202, val_bpb_std=stated)
        _, *more = read_seeds([folder]).notes
        assert len(more) == notes and all(str(stated) in note for note in more)


@pytest.mark.parametrize(("bpb", "passes"), [(1.19, True), (1.199, False)])
def test_the_rule_of_the_challenge_is_tested_on_logs(tmp_path, bpb, passes):
    old, new = entry(tmp_path / "old", 1.2, settings=OFFICIAL), entry(tmp_path / "new", bpb)
    comparison = compare(read_seeds([new]), read_seeds([old]))
    assert (comparison.passes, comparison.applies) == (passes, False)
    official = read_seeds([entry(tmp_path / "official", bpb, settings=OFFICIAL)])
    assert compare(official, read_seeds([old])).applies


def test_another_tokenizer_is_told_by_its_bytes_per_token(tmp_path):
    old, new = entry(tmp_path / "old", 1.2), tmp_path / "new"
    make_entry(new, {f"{seed}.log": Log(seed, 1.1 + seed / 1e4, 2.9) for seed in (1, 2)})
    logs = sorted(new.glob("*.log"))
    with pytest.raises(BadData, match="different tokenizers"):
        compare(read_seeds(logs), read_seeds([old]))
    comparison = compare(read_seeds(logs), read_seeds([old]), "bpb")
    assert comparison.margin == pytest.approx(0.005 * 1.2 / 2.4, rel=1e-3)


def test_a_score_is_chosen_by_its_name(tmp_path):
    path = tmp_path / "train.log"
    path.write_text(Log().text() + "legal_ttt val_loss:1.9 val_bpb:1.1\n")
    assert read_seeds([path]).values("bpb") == [1.1]
    assert read_seeds([path], "final_int8_roundtrip").values("bpb") == [1.2]
    with pytest.raises(BadData, match="no score of this name"):
        read_seeds([path], "final")


@pytest.mark.parametrize(
    ("other", "words"),
    [
        (Log(1), "twice is one seed"),
        (replace(Log(2), settings={"matrix_lr": 0.05}), "matrix_lr 0.04 / 0.05"),
        (replace(Log(1), bpb=1.3), "print one seed"),
        ("step:1/2 val_loss:1 val_bpb:1 train_time:1ms", "no score"),
        ("", "no score"),
    ],
)
def test_what_are_no_seeds_of_one_run_is_refused(tmp_path, other, words):
    first, second = tmp_path / "a.log", tmp_path / "b.txt"
    first.write_text(Log(1).text())
    second.write_text(other if isinstance(other, str) else other.text())
    with pytest.raises(BadData, match=words):
        read_seeds([first, second] if words != "no score" else [second])


def test_a_run_that_a_log_holds_twice_is_one_seed(tmp_path):
    path = tmp_path / "train.log"
    path.write_text(2 * Log().text())
    assert read_seeds([path]).values("bpb") == [1.2]


def test_the_command_compares_two_folders(tmp_path):
    old, new = entry(tmp_path / "old", 1.2), entry(tmp_path / "new", 1.1)
    done = CliRunner().invoke(command, [str(new), "--against", str(old), "--json"])
    facts = json.loads(done.stdout)
    assert facts["run"]["n"] == 3 and facts["comparison"]["rule"]["passes"]
    assert facts["run"]["notes"] == ["the score is final_int8_roundtrip_exact"]
