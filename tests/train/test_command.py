"""`squeeze train` from the command line."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from click.testing import CliRunner, Result

from squeeze.checkpoint.read import load_model
from squeeze.cli import cli
from squeeze.cli.runs import train as train_run
from squeeze.errors import BadData, SqueezeError
from squeeze.train.data.shards import write_shard
from squeeze.train.data.text import encode_documents, train_tokenizer
from squeeze.train.metadata import read_metadata
from squeeze.train.model.config import ModelConfig
from squeeze.train.optim.recipe import Recipe
from squeeze.train.presets import PRESETS
from squeeze.train.run.clock import Clock, OutOfTime

TEXT = "A starter of wild yeast doubles in six hours at room temperature, slower in winter. " * 40
SMALL = {
    "num_layers": 2,
    "model_dim": 16,
    "num_heads": 2,
    "num_kv_heads": 1,
    "mlp_hidden": 32,
    "seq_len": 16,
    "bigram_rows": 37,
    "trigram_rows": 53,
}
SETTINGS = [f"{name}={value}" for name, value in SMALL.items()]
SHAPE = [word for text in [*SETTINGS, "batch_tokens=64"] for word in ("--set", text)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("train")
    train_tokenizer([TEXT], 300, folder / "t.model")
    write_shard(folder / "a.bin", encode_documents([TEXT], folder / "t.model"))
    return folder


def run(folder: Path, *arguments: str) -> Result:
    out = str(folder / "m.safetensors")
    return CliRunner().invoke(
        cli, ["train", "--data", str(folder / "a.bin"), "--out", out, *arguments]
    )


def test_a_trained_model_is_saved_with_its_config_and_scored(folder: Path) -> None:
    tokenizer = ("--tokenizer", str(folder / "t.model"))
    result = run(
        folder, *tokenizer, *SHAPE, "--steps", "8", "--val", str(folder / "a.bin"), "--json"
    )
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    assert (report["steps"], report["tokens_seen"]) == (8, 8 * 64)
    assert report["val"]["bytes"] == len(TEXT.encode())
    assert report["val"]["bpb"] > 0
    config = replace(PRESETS["tiny"].model, vocab_size=300, **SMALL)
    assert load_model(folder / "m.safetensors").config == config
    assert report["params"] == config.num_params


def test_a_config_can_be_given_as_json_or_as_a_file(folder: Path) -> None:
    config = ModelConfig(310, 1, 16, 2, 2, 24, mlp_power=3, seq_len=8)
    (folder / "c.json").write_text(config.to_json())
    for given in (config.to_json(), str(folder / "c.json")):
        result = run(folder, "--config", given, "--steps", "1")
        assert result.exit_code == 0, result.output
        assert load_model(folder / "m.safetensors").config == config


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--steps", "1", "--val", "a.bin"], "--val needs --tokenizer"),
        (["--steps", "-1"], "Invalid value"),
        (["--threads", "0"], "Invalid value"),
        (["--threads", "100000"], "Invalid value"),
    ],
)
def test_a_wrong_call_is_a_usage_error(folder: Path, arguments: list[str], message: str) -> None:
    result = run(folder, *arguments)
    assert result.exit_code == 2
    assert message in result.output


@pytest.mark.parametrize("arguments", [["--out", "none/m"], ["--val", "none.bin"]])
def test_a_file_that_cannot_be_used_is_found_before_training(
    folder: Path, arguments: list[str]
) -> None:
    call = ["--budget-seconds", "1000", "--tokenizer", str(folder / "t.model"), *arguments]
    assert isinstance(run(folder, *call).exception, SqueezeError)


def test_data_outside_the_vocabulary_is_refused(folder: Path) -> None:
    result = run(folder, *SHAPE, "--set", "vocab_size=200", "--steps", "1")
    assert isinstance(result.exception, BadData)


def test_a_vocabulary_that_is_not_the_tokenizers_is_refused(folder: Path) -> None:
    tokenizer = ("--tokenizer", str(folder / "t.model"), "--steps", "1")
    assert isinstance(run(folder, *tokenizer, "--set", "vocab_size=200").exception, BadData)
    config = ModelConfig(200, 1, 16, 2, 2, 24).to_json()
    assert isinstance(run(folder, *tokenizer, "--config", config).exception, BadData)


def test_help_fits_one_screen_and_shows_an_example() -> None:
    text = CliRunner().invoke(cli, ["train", "--help"]).output
    assert "Example:" in text
    assert len(text.splitlines()) <= 55


def test_the_recipe_travels_with_the_checkpoint_and_two_are_compared(folder: Path) -> None:
    for out, extra in (("a", ["--set", "grad_clip=0.5"]), ("b", ["--set", "mlp_hidden=48"])):
        call = ["--steps", "1", *SHAPE, *extra, "--set", "vocab_size=300", "--no-plot"]
        assert run(folder, *call, "--out", str(folder / out)).exit_code == 0
    recipe = Recipe.from_json(read_metadata(folder / "a")["squeeze.recipe"])
    assert (recipe.steps, recipe.grad_clip, recipe.batch_tokens) == (1, 0.5, 64)
    one = CliRunner().invoke(cli, ["inspect", str(folder / "a"), "--json"])
    assert json.loads(one.stdout)["recipe"] == asdict(recipe)
    two = ["inspect", str(folder / "a"), str(folder / "b")]
    differ = json.loads(CliRunner().invoke(cli, [*two, "--json"]).stdout)["differ"]
    assert differ == {"mlp_hidden": [32, 48], "grad_clip": [0.5, Recipe().grad_clip]}
    assert "mlp_hidden           32 → 48" in CliRunner().invoke(cli, two).stdout
    same = CliRunner().invoke(cli, ["inspect", str(folder / "a"), str(folder / "a")])
    assert same.stdout == "no setting differs\n"


def test_equal_runs_give_equal_bytes(folder: Path) -> None:
    call = ["--steps", "2", *SHAPE, "--set", "vocab_size=300", "--threads", "1", "--no-plot"]
    for out in "ab":
        assert run(folder, *call, "--out", str(folder / out)).exit_code == 0
    assert (folder / "a").read_bytes() == (folder / "b").read_bytes()


def test_a_run_leaves_a_log_and_a_curve(folder: Path) -> None:
    out = folder / "run.safetensors"
    call = ["--steps", "5", *SHAPE, "--set", "vocab_size=300", "--out", str(out)]
    assert run(folder, *call).exit_code == 0
    lines = [json.loads(line) for line in out.with_suffix(".jsonl").read_text().splitlines()]
    assert [line.get("event") for line in (lines[0], lines[-1])] == ["begin", "end"]
    assert [line["step"] for line in lines[1:-1]] == [1, 2, 3, 4, 5]
    assert lines[0]["config"]["model_dim"] == 16
    assert {row["stage"] for row in lines[-1]["clock"]} >= {"setup", "training", "export"}
    assert b"<svg" in out.with_suffix(".svg").read_bytes()
    assert out.with_suffix(".png").read_bytes()[:4] == b"\x89PNG"
    assert not out.with_suffix(".state").exists()


def test_what_is_missing_for_an_extra_is_said_before_training(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    call = ["--steps", "1", *SHAPE, "--set", "vocab_size=300"]
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    result = run(folder, *call, "--tensorboard", str(folder / "tb"))
    assert "pip install '.[tensorboard]'" in str(result.exception)
    monkeypatch.setattr("squeeze.train.run.plot.has_matplotlib", lambda: False)
    assert ".[plot]" in str(run(folder, *call, "--plot").exception)


def test_nothing_is_exported_when_the_budget_ran_out(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inside = Clock.inside

    def late(clock: Clock) -> float:
        return inside(clock) + (1e6 if "export" in clock.seconds else 0.0)

    monkeypatch.setattr(Clock, "inside", late)
    out = folder / "late.safetensors"
    call = [*SHAPE, "--set", "vocab_size=300", "--budget-seconds", "1", "--out", str(out)]
    result = run(folder, *call)
    assert isinstance(result.exception, OutOfTime)
    assert [path.name for path in folder.glob("*late*")] == ["late.jsonl"]


def test_a_whole_run_keeps_to_its_budget(folder: Path) -> None:
    # the reserve is for a machine that is busy: at the end it may stop this process for half a second
    call = [*SHAPE, "--set", "vocab_size=300", "--budget-seconds", "2.5", "--json", "--no-plot"]
    report = json.loads(run(folder, *call, "--set", "reserve_seconds=1.25").stdout)
    assert report["steps"] > 0
    assert report["seconds"] <= 2.5
    counted = sum(row["seconds"] for row in report["clock"] if row["inside"])
    assert counted <= 2.5
    assert report["clock"][-1] == {"stage": "reserve", "seconds": 1.25, "inside": True}


def test_the_loss_curve_can_be_followed_in_tensorboard(folder: Path) -> None:
    pytest.importorskip("tensorboard")
    call = ["--steps", "1", *SHAPE, "--set", "vocab_size=300"]
    assert run(folder, *call, "--tensorboard", str(folder / "tb")).exit_code == 0
    assert list((folder / "tb").glob("events*"))


@pytest.mark.parametrize(
    ("save_every", "budget", "seconds"), [(None, 600, 0.0), (None, 0, 120.0), (30.0, 600, 30.0)]
)
def test_no_state_is_saved_within_a_budget_unless_asked_for(
    save_every: float | None, budget: float, seconds: float
) -> None:
    preset = PRESETS["tiny"]
    preset = replace(preset, recipe=replace(preset.recipe, budget_seconds=budget, steps=9))
    request = SimpleNamespace(save_every=save_every)
    assert train_run._save_every(request, preset) == seconds  # type: ignore[arg-type]


@pytest.mark.parametrize("known", [False, True])
def test_the_report_says_what_it_computed_in(
    folder: Path, known: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("squeeze.train.optim.optimizer.has_bf16", lambda device: known)
    call = [*SHAPE, "--set", "precision=native", "--set", "vocab_size=300", "--steps", "1"]
    shown = run(folder, *call).stdout
    assert "products in " + ("bf16" if known else "fp32") in shown
    assert ("no instructions for bf16" in shown) is not known


def shard(folder: Path, name: str, tokens: list[int]) -> str:
    write_shard(folder / name, np.array(tokens, np.uint16))
    return str(folder / name)


@pytest.mark.parametrize(
    ("tokens", "message"),
    [([], "nothing to score"), ([1], "nothing to score"), ([1, 5, 300], "found token 300")],
)
def test_validation_that_cannot_be_scored_is_refused_before_the_training(
    folder: Path, tmp_path: Path, tokens: list[int], message: str
) -> None:
    val = shard(tmp_path, "v.bin", tokens)
    out = str(tmp_path / "m.safetensors")
    tokenizer = ("--tokenizer", str(folder / "t.model"))
    result = run(folder, *tokenizer, *SHAPE, "--steps", "1", "--val", val, "--out", out)
    assert message in str(result.exception)
    assert not list(tmp_path.glob("m.*"))


def test_a_score_of_training_text_and_its_notes_are_named(folder: Path, tmp_path: Path) -> None:
    copy = tmp_path / "v.bin"
    copy.write_bytes((folder / "a.bin").read_bytes())
    tokenizer = ("--tokenizer", str(folder / "t.model"))
    result = run(folder, *tokenizer, *SHAPE, "--steps", "1", "--val", str(copy))
    assert f"{copy} is among --data as {folder / 'a.bin'}" in result.output
    assert "note: the tokenizer's identity is not pinned" in result.output


@pytest.mark.parametrize(
    ("options", "limits"),
    [
        (["--steps", "1"], (1, 0.0, 0.0)),
        (["--steps", "1", "--budget-seconds", "60"], (1, 60.0, 12.0)),
        (["--steps", "1", "--set", "budget_seconds=60"], (1, 60.0, 12.0)),
        (["--set", "steps=1"], (1, 600.0, 12.0)),
    ],
)
def test_steps_lift_the_cap_only_where_none_is_asked_for(
    folder: Path, options: list[str], limits: tuple[int, float, float]
) -> None:
    shape = ["--config", ModelConfig(310, 1, 16, 2, 2, 24, seq_len=8).to_json()]
    small = ["--set", "batch_tokens=64", "--preset", "record-1493", "--json"]
    result = run(folder, *shape, *small, *options)
    assert result.exit_code == 0, result.output
    recipe = json.loads(result.stdout)["recipe"]
    assert (recipe["steps"], recipe["budget_seconds"], recipe["reserve_seconds"]) == limits


def test_a_limit_given_twice_is_refused(folder: Path) -> None:
    result = run(folder, *SHAPE, "--steps", "1", "--set", "steps=2")
    assert "--steps and --set steps say one thing twice" in str(result.exception)


@pytest.mark.parametrize("option", ["--save-every", "--budget-seconds"])
@pytest.mark.parametrize("value", ["nan", "inf"])
def test_times_are_finite(folder: Path, option: str, value: str) -> None:
    result = run(folder, *SHAPE, "--steps", "1", option, value)
    assert result.exit_code == 2
    assert f"{value!r} is not a finite number" in result.output


@pytest.mark.parametrize("device", ["hpu", "meta", "tpu", ""])
def test_a_device_that_nothing_computes_on_is_refused(folder: Path, device: str) -> None:
    result = run(folder, *SHAPE, "--steps", "1", "--device", device)
    assert isinstance(result.exception, SqueezeError)
    assert f"device {device!r} cannot be used" in str(result.exception)


def test_a_run_that_cannot_begin_leaves_the_log_and_names_the_state(
    folder: Path, tmp_path: Path
) -> None:
    out, log, state = (tmp_path / name for name in ("m.safetensors", "m.jsonl", "m.state"))
    call = [*SHAPE, "--set", "vocab_size=300", "--steps", "1", "--no-plot", "--out", str(out)]
    assert run(folder, *call).exit_code == 0
    before = log.read_bytes()
    state.write_bytes(b"of a run that was stopped")
    result = run(folder, *call, "--set", "seq_len=100000", "--set", "batch_tokens=100000")
    assert "too little text" in str(result.exception)
    assert log.read_bytes() == before
    assert f"note: {state} is of a run that was stopped: --resume goes on" in result.output
