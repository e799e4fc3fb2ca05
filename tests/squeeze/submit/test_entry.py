"""The script of a submission, alone in a folder, where squeeze is not installed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from squeeze.bundle.build import Bundle, BundleOptions
from squeeze.packing.machine import CHOICES
from squeeze.score.evaluate import EvalOptions, evaluate
from squeeze.score.modes import Mode
from squeeze.submit.script import own_script, smallest_options
from squeeze.train.data.shards import write_shard
from squeeze.train.data.text import encode_documents, train_tokenizer
from squeeze.train.model.config import ModelConfig
from squeeze.train.optim.recipe import Recipe
from tests.tiny_text import TEXT

CONFIG = ModelConfig(
    300, 3, 16, 2, 1, 16, seq_len=32, layer_schedule=(0, 1, 1, 2), rope_dims=4, xsa_layers=3,
    mlp_slope=0.5, norm_scale=True, skip_gates=True, parallel="sum", parallel_from=2, q_gain_init=5.25,
)  # fmt: skip
RECIPE = Recipe(
    batch_tokens=256, row_normalize=True, momentum_start=0.9, momentum_warmup=3, average="ema",
    recurrence_start=0.35, qat_start=0.7, grad_clip=0.3,
)  # fmt: skip
SMALL = {"STATES": 4, "SCOUT_STATES": 4, "CALIBRATION_TOKENS": 128, "QUANTIZED": 256}
ROOMS = {
    "artifact",
    "calib",
    "codecs",
    "errors",
    "files",
    "packing",
    "ranks",
    "reporter",
    "score",
    "submit",
    "tensors",
    "train",
}
ROOM = 7_500  # bytes of model.sqz
TARGETS = 150  # scored

# A package that cannot be imported, though it is installed; torch and the others can.
ALONE = """
import runpy, sys
sys.modules["squeeze"] = None
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tokenizer and shards under the names of the challenge."""
    folder = tmp_path_factory.mktemp("data")
    texts = [TEXT * 3, TEXT.upper(), "Salt keeps it; yeast does not. " * 4] * 6
    train_tokenizer(texts, 300, folder / "tokenizer.model")
    tokens = encode_documents(texts, folder / "tokenizer.model")
    write_shard(folder / "fineweb_train_000000.bin", tokens)
    write_shard(folder / "fineweb_val_000000.bin", tokens[::-1].copy())
    return folder


def instructions() -> dict[str, str]:
    """Variables by which libraries choose instructions: other ones round otherwise."""
    return {name: os.environ[name] for name in CHOICES if name in os.environ}


def run(
    script: Path, data: Path, *arguments: str, **environment: str
) -> tuple[float, dict[str, Any]]:
    """(the score it printed, its last line) of a run in the script's own folder."""
    inputs = {"DATA_PATH": str(data), "TOKENIZER_PATH": str(data / "tokenizer.model"), "SEED": "3"}
    quick = {"NUMBA_DISABLE_JIT": "1", "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
    done = subprocess.run(
        [sys.executable, "-I", "-W", "ignore", "-c", ALONE, script, *arguments],
        cwd=script.parent,
        env={"PATH": os.environ["PATH"], **instructions(), **quick, **inputs, **environment},
        capture_output=True, text=True, timeout=600,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    *_, score, facts = done.stdout.splitlines()
    assert score.startswith("val_bpb: ")
    return float(score.removeprefix("val_bpb: ")), json.loads(facts)


@pytest.fixture(scope="module")
def made() -> Bundle:
    options = BundleOptions(constants=SMALL, forms=("plain",), minified=False)
    return own_script(vars(CONFIG), vars(RECIPE), 16_000_000, Mode(), options)


@pytest.fixture(scope="module")
def script(made: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("submission") / "train_gpt.py"
    path.write_bytes(made.shipped.data)
    return path


def test_only_rooms_that_the_script_enters_ship(made: Bundle) -> None:
    modules = {part.module for part in made.parts if part.module.startswith("squeeze.")}
    assert {module.split(".")[1] for module in modules} == ROOMS


@pytest.fixture(scope="module")
def trained(script: Path, data: Path) -> tuple[float, dict[str, Any]]:
    limit = str(script.stat().st_size + ROOM)
    return run(script, data, "--steps", "6", "--limit", limit, "--tokens", str(TARGETS))


def score_of(script: Path, data: Path, mode: Mode) -> float:
    model, tokenizer = script.with_name("model.sqz"), data / "tokenizer.model"
    shards = [data / "fineweb_val_000000.bin"]
    return evaluate(model, tokenizer, shards, EvalOptions(mode, tokens=TARGETS)).bpb


def test_it_trains_packs_under_the_limit_and_scores_what_it_wrote(
    script: Path, data: Path, trained: tuple[float, dict[str, Any]]
) -> None:
    score, facts = trained
    model = script.with_name("model.sqz")
    assert facts["files"] == {p.name: p.stat().st_size for p in (script, model)}
    assert ROOM - 400 < model.stat().st_size <= ROOM
    assert facts["seed"] == 3
    assert score == pytest.approx(score_of(script, data, Mode()), abs=1e-9)


def test_only_the_model_and_the_log_are_written(
    script: Path, trained: tuple[float, dict[str, Any]]
) -> None:
    assert sorted(p.name for p in script.parent.iterdir()) == [
        "model.sqz",
        "train.log",
        "train_gpt.py",
    ]
    assert script.with_name("train.log").read_text().splitlines()[-1] == json.dumps(trained[1])


def test_it_needs_no_arguments_and_says_what_to_set(script: Path, tmp_path: Path) -> None:
    alone = tmp_path / "train_gpt.py"
    alone.write_bytes(script.read_bytes())
    done = subprocess.run(
        [sys.executable, "-I", "-W", "ignore", "-c", ALONE, alone],
        cwd=tmp_path, env={"PATH": os.environ["PATH"], "NUMBA_DISABLE_JIT": "1"},
        capture_output=True, text=True, timeout=600,
    )  # fmt: skip
    assert done.returncode == 1
    assert "no shards" in done.stderr and "DATA_PATH" in done.stderr


def test_every_second_is_in_the_ledger(trained: tuple[float, dict[str, Any]]) -> None:
    inside = {row["stage"]: row["inside"] for row in trained[1]["clock"]}
    assert inside["training"] and inside["setup"] and inside["averaging"]
    assert not inside["packing"] and not inside["validation"]


@pytest.mark.parametrize(
    "mode", [Mode("sliding", stride=8), pytest.param(Mode("ttt-lora"), marks=pytest.mark.slow)]
)
def test_the_score_of_a_mode_is_that_of_squeeze_eval_and_nothing_is_written(
    script: Path, data: Path, trained: tuple[float, dict[str, Any]], mode: Mode, tmp_path: Path
) -> None:
    options = BundleOptions(constants=SMALL, forms=("plain",), minified=False)
    made = own_script(vars(CONFIG), vars(RECIPE), 16_000_000, mode, options)
    other = tmp_path / "train_gpt.py"
    other.write_bytes(made.shipped.data)
    other.with_name("model.sqz").write_bytes(script.with_name("model.sqz").read_bytes())
    before = {p.name: p.stat().st_mtime_ns for p in tmp_path.iterdir()}
    score, facts = run(other, data, "--eval", "--tokens", str(TARGETS))
    assert facts["mode"] == mode.name
    assert score == pytest.approx(score_of(script, data, mode), abs=1e-9)
    assert {p.name: p.stat().st_mtime_ns for p in tmp_path.iterdir()} == before


@pytest.mark.slow
def test_a_damaged_model_has_no_score(
    script: Path, data: Path, trained: tuple[float, dict[str, Any]], tmp_path: Path
) -> None:
    options = smallest_options(vars(CONFIG), vars(RECIPE))
    options = replace(options, forms=("plain",), constants=options.constants | SMALL)
    made = own_script(vars(CONFIG), vars(RECIPE), 16_000_000, Mode(), options)
    small, model = tmp_path / "train_gpt.py", bytearray(script.with_name("model.sqz").read_bytes())
    small.write_bytes(made.shipped.data)
    model[-9] ^= 1
    small.with_name("model.sqz").write_bytes(model)
    with pytest.raises(AssertionError, match=r"model\.sqz is damaged"):
        run(small, data, "--eval", "--tokens", str(TARGETS))


@pytest.mark.slow
def test_the_smallest_script_writes_the_same_model(
    script: Path, data: Path, trained: tuple[float, dict[str, Any]], tmp_path: Path
) -> None:
    small = tmp_path / "train_gpt.py"
    options = smallest_options(vars(CONFIG), vars(RECIPE))
    options = replace(options, forms=("plain",), constants=options.constants | SMALL)
    made = own_script(vars(CONFIG), vars(RECIPE), 16_000_000, Mode(), options)
    small.write_bytes(made.shipped.data)
    limit = str(small.stat().st_size + ROOM)
    score, _ = run(small, data, "--steps", "6", "--limit", limit, "--tokens", str(TARGETS))
    assert score == trained[0]
    written = small.with_name("model.sqz").read_bytes()
    assert written == script.with_name("model.sqz").read_bytes()
