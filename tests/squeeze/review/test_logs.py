"""Logs of entrants: scores, timers, sizes, seeds and settings, in every spelling of the field."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest

from squeeze.review.claimed import differences
from squeeze.review.logs import distinct_runs, read_runs
from tests.entries import SOURCE, Log


def read_one(text, name="train.log"):
    (run,) = read_runs(name, text)
    return run


def test_a_log_tells_its_scores_sizes_seed_and_settings():
    run = read_one(Log(seed=7).text())
    assert [score.name for score in run.scores] == [
        "final_int8_roundtrip",
        "final_int8_roundtrip_exact",
    ]
    assert (run.final.bpb, run.final.nats) == (1.2, 2.0)
    assert (run.model, run.code, run.total) == (15_000_000, Log().code, 15_000_000 + Log().code)
    assert run.seed == 7
    assert run.settings == {"matrix_lr": "0.04", "num_layers": "9", "train_seq_len": "1024"}


@pytest.mark.parametrize(
    ("line", "name", "bpb"),
    [
        (
            "quantized_ttt val_loss:2.5 val_bpb:1.08079352 eval_time:366525ms",
            "quantized_ttt",
            1.08079352,
        ),
        ("pre-quantization post-ema val_loss:2.5 val_bpb:1.1", "pre-quantization post-ema", 1.1),
        ("final_eval_exact stride:64 val_loss:2.5 val_bpb:1.2", "final_eval_exact", 1.2),
        ("1776142360.538 final val_loss:2.5 val_bpb:1.3", "final", 1.3),
        ("ttt_sliding:done val_loss=2.5 val_bpb=1.4 elapsed=9.1s", "ttt_sliding:done", 1.4),
        ("final_exact sliding val_loss:2.5 sliding val_bpb:1.5", "final_exact sliding", 1.5),
        ("final val_bpb: 1.6, val_loss: 2.5", "final", 1.6),
        ("final val_loss = 2.5 | val_bpb = 1.7", "final", 1.7),
        ('final {"val_loss": 2.5, "val_bpb": 1.8}', "final", 1.8),
    ],
)
def test_scores_are_read_in_the_spellings_of_the_field(line, name, bpb):
    run = read_one(line)
    assert (run.final.name, run.final.bpb) == (name, bpb)


def test_scores_within_training_are_no_final_scores():
    text = "step:5/10 val_loss:2.5 val_bpb:1.1 train_time:5ms\n6/10 val_loss: 2.4 val_bpb: 1.05\n"
    assert not read_one(text).scores


@pytest.mark.parametrize(
    ("line", "milliseconds"),
    [
        ("stopping_early: wallclock_cap train_time: 588047ms step: 4550/20000", 588_047),
        ("step:9/10 train_loss:2 train_time:599.5s", 599_500),
        ("9/10 train_loss: 2 train_time: 9.7m tok/s: 9", 582_000),
        ("step:9/10 train_loss:2 train_time=41425 ms step_avg:82ms", 41_425),
        ("training_time: 599.1 s", 599_100),
        ('{"train_time_ms": 588047}', 588_047),
        ("done, train_time 588047ms", 588_047),
        ("train_time: 10.5m\nstopping train_time: 9ms", 630_000),
    ],
)
def test_timers_are_read_with_and_without_a_space_in_every_unit(line, milliseconds):
    assert read_one(line).longest.milliseconds == pytest.approx(milliseconds)


@pytest.mark.parametrize(
    ("lines", "sizes"),
    [
        ("Serialized model int6+zstd: 15826931 bytes\nCode size: 66055 bytes", (15_826_931, 66_055)),
        ("Code: 70,969 bytes\nTotal submission: 15,441,941 bytes", (15_370_972, 70_969)),
        ("artifact_bytes: 15441941\nbytes_code=70969", (15_370_972, 70_969)),
        ("Compressed model size: 15370972 bytes\nScript code: 70969 bytes", (15_370_972, 70_969)),
        ("budget:15992753/16000000 FITS\nartifact:15.92MB code:70853", (15_921_900, 70_853)),
        ("Code size (uncompressed): 131887 bytes\nCode size (compressed): 28025 bytes\n"
         "Total submission size quantized+brotli: 15978834 bytes", (15_950_809, 28_025)),
    ],
)  # fmt: skip
def test_sizes_are_read_in_the_spellings_of_the_field(lines, sizes):
    run = read_one(lines)
    assert (run.model, run.code) == sizes


def test_source_in_a_log_is_no_setting():
    with_source, without = read_one(Log().text()), read_one(Log(source="").text())
    assert with_source.settings == without.settings
    assert not read_one(SOURCE + "\nstep:0/9 train_loss:9 train_time:0ms").settings


def test_settings_are_read_from_a_block_and_behind_a_time_of_day():
    text = (
        "1776142360.5 Hyperparameters:\n1776142360.5   matrix_lr: 0.022\n  seed: 4\n"
        "  logfile: logs/a1b2.txt\n  run_id: a1b2\nstep:0/9 train_loss:9\n  later: 1\n"
    )
    run = read_one(text)
    assert (run.settings, run.seed) == ({"matrix_lr": "0.022"}, 4)


@pytest.mark.parametrize(
    ("name", "seed"),
    [
        ("train_seed42.log", 42),
        ("log_seed-7.txt", 7),
        ("logs/x_s1337.txt", 1337),
        ("train.log", None),
    ],
)
def test_a_seed_that_is_not_printed_is_that_of_the_name(name, seed):
    assert read_one("final val_loss:2 val_bpb:1", name).seed == seed


def test_runs_one_after_the_other_in_a_file_are_told_apart():
    first, second = Log(seed=1), Log(seed=2, bpb=1.3)
    runs = read_runs("train.log", first.text() + second.text())
    assert [(run.log, run.seed, run.final.bpb) for run in runs] == [
        ("train.log (1)", 1, 1.2),
        ("train.log (2)", 2, 1.3),
    ]
    assert runs[0].settings == runs[1].settings


def test_a_run_that_resumes_is_one_run():
    text = "step:900/1000 train_loss:2 train_time:9ms\nstep:800/1000 train_loss:2 train_time:8ms\n"
    assert len(read_runs("train.log", text)) == 1


def test_a_log_that_is_there_twice_is_one_run():
    text = Log().text()
    runs = read_runs("a.log", text) + read_runs("b.log", text.replace("\n", "\r\n"))
    assert len(distinct_runs(runs)) == 1
    other = replace(Log(), seed=2).text()
    assert len(distinct_runs(runs + read_runs("c.log", other))) == 2


def test_where_the_shards_lie_is_no_setting():
    (run,) = read_runs(
        "a.log", "val_loader:shards pattern=/data/a_*.bin tokens:99 lr:1\nstep:1/2\n"
    )
    assert "pattern" not in run.settings


def test_settings_of_two_runs_are_compared_where_both_print_them():
    first = read_one(Log().text())
    other = read_one(Log(settings={"matrix_lr": 0.05, "warmup_steps": 20}).text())
    assert differences(first, other) == {"matrix_lr": ("0.04", "0.05")}


@pytest.mark.parametrize(
    "piece",
    [
        "train_time:1ms ",
        "train_time:",
        "val_loss:1 ",
        "val_loss:1 val_bpb:1 ",
        "total: 1,",
        "1" * 9,
        "a:",
        "eval_time:1",
        "1/2 ",
        "step:1 ",
        "if : ",
        "if x",
        " ",
        "[",
    ],
)
def test_a_line_of_any_repetition_is_read_in_time_proportional_to_it(piece):
    began = time.process_time()
    read_runs("train.log", piece * 20_000)
    assert time.process_time() - began < 2


@pytest.mark.parametrize(
    "line",
    [
        "matrix_lr:0.04 num_layers:9",
        "matrix_lr=0.04, num_layers=9",
        "Namespace(matrix_lr=0.04, num_layers=9)",
        '{"matrix_lr": 0.04, "num_layers": 9}',
        "  matrix_lr = 0.04\n  num_layers = 9",
        "matrix_lr: 0.04\nnum_layers: '9'",
    ],
)
def test_settings_are_read_in_every_form(line):
    assert read_one(f"{line}\nstep:0/9 train_loss:9").settings == {
        "matrix_lr": "0.04",
        "num_layers": "9",
    }


def test_a_log_that_is_cut_is_the_run_it_was_cut_from():
    text = Log().text()
    cut = "\n".join(text.splitlines()[-4:])
    runs = distinct_runs(read_runs("a.log", "seed:1\n" + cut) + read_runs("b.log", text))
    assert [run.log for run in runs] == ["b.log"]


def test_numbers_beyond_all_bounds_are_no_measurements():
    big = "9" * 5000
    text = f"seed:{big}\nfinal val_loss:{big} val_bpb:{big}\ntrain_time:{big}ms\n"
    text += f"Code size: {big} bytes\n"
    run = read_one(text)
    assert not run.measured and run.seed is None
