"""Seeds of one configuration: reports, trainings and logs that a submission tells of."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from squeeze.errors import BadData, SqueezeError
from squeeze.files import sha256
from squeeze.score.audit import audit, load_data
from squeeze.submit.seeds import read_seed_runs, read_training
from squeeze.train.checkpoint import save_checkpoint
from squeeze.train.model.gpt import GPT
from squeeze.train.optim.recipe import Recipe
from tests.squeeze.submit.bread import CONFIG, eval_report, refused, score, train_report, write


def test_seeds_get_a_mean_a_spread_and_a_file_each(inputs: Path, tmp_path: Path) -> None:
    first = eval_report(inputs, tmp_path / "a.json")
    bpb = json.loads(first.read_text())["bpb"]
    other = eval_report(inputs, tmp_path / "b.json", model="1" * 64, bpb=bpb + 0.02, seed=7)
    trained = [train_report(tmp_path / f"t{seed}.json", seed) for seed in (7, 1337)]
    runs = [f"1337={first}", str(other)]
    write(inputs, tmp_path / "s", seed_runs=runs, trainings=trained)
    claims = json.loads((tmp_path / "s" / "submission.json").read_text())
    assert [row["seed"] for row in claims["seeds"]] == [1337, 7]
    assert claims["val_bpb"] == bpb
    assert claims["val_bpb_mean"] == pytest.approx(bpb + 0.01)
    assert claims["val_bpb_std"] == pytest.approx(0.02 / math.sqrt(2))
    assert claims["training_seconds"] == 20.5 and claims["clock"][0]["inside"] is False
    assert claims["config"]["recipe"]["matrix_lr"] == Recipe().matrix_lr
    page = (tmp_path / "s" / "README.md").read_text()
    assert "standard deviation" in page and "inside the budget" in page
    verdicts = audit(
        tmp_path / "s", load_data([inputs / "d.bin"], inputs / "t.model", 100)
    ).verdicts
    assert verdicts["seeds"].status == verdicts["clock"].status == "pass"


SEEDS: dict[str, tuple[dict[str, Any], str]] = {
    "another configuration": ({"config": {"vocab_size": 9}}, "not seeds of one configuration"),
    "another mode": ({"mode": "sliding"}, "not seeds of one configuration"),
    "a score that is none": ({"bpb": float("nan")}, "no number of 64 bits"),
}


@pytest.mark.parametrize("name", SEEDS)
def test_seeds_that_do_not_belong_together_are_refused(
    name: str, inputs: Path, tmp_path: Path
) -> None:
    changes, message = SEEDS[name]
    first = eval_report(inputs, tmp_path / "a.json")
    other = eval_report(inputs, tmp_path / "b.json", model="1" * 64, **changes)
    with refused(message, SqueezeError):
        read_seed_runs([f"1={first}", f"2={other}"])


def test_one_seed_or_one_model_twice_is_refused(inputs: Path, tmp_path: Path) -> None:
    first = eval_report(inputs, tmp_path / "a.json")
    other = eval_report(inputs, tmp_path / "b.json", model="1" * 64)
    with refused("a seed twice is one seed"):
        read_seed_runs([f"1={first}", f"1={other}"])
    with refused("the same model twice", BadData):
        read_seed_runs([f"1={first}", f"2={first}"])
    with refused("does not say its seed"):
        read_seed_runs([str(first), f"1={other}"])


def test_seeds_of_other_models_than_the_one_that_ships_are_refused(
    inputs: Path, tmp_path: Path
) -> None:
    other = eval_report(inputs, tmp_path / "b.json", model="1" * 64)
    with refused("no seed run is of the model that ships"):
        write(inputs, tmp_path / "s", seed_runs=[f"1={other}"])


def test_a_score_in_another_precision_is_not_that_of_the_submission(
    inputs: Path, tmp_path: Path
) -> None:
    half = eval_report(inputs, tmp_path / "b.json", precision="bf16")
    with refused("the seed runs are of another precision; expected fp32, found bf16"):
        write(inputs, tmp_path / "s", seed_runs=[f"1={half}"])


def test_a_training_of_another_model_or_recipe_is_refused(inputs: Path, tmp_path: Path) -> None:
    run = f"1={eval_report(inputs, tmp_path / 'a.json')}"
    other = train_report(tmp_path / "t.json", 1, config={"vocab_size": 9})
    with refused("training of seed 1 is of another model"):
        read_seed_runs([run], [other])
    clock = train_report(tmp_path / "c.json", 1, clock=[{"stage": "x", "seconds": -1}])
    with refused("clock"):
        read_seed_runs([run], [clock])


def log(inputs: Path, path: Path, code: bytes, **changes: Any) -> Path:
    """Write the log of a script that trains and scores by itself."""
    report = score(inputs)
    facts = {name: report[name] for name in ("bpb", "nats", "tokens", "bytes", "mode")}
    facts["clock"] = [{"stage": "training", "seconds": 9.5, "inside": True}]
    facts["sha256"] = {"train_gpt.py": sha256(code), "model.sqz": report["sha256"]["model"]}
    path.write_text("step:1\n" + json.dumps({**facts, **changes}) + "\n")
    return path


def test_logs_of_the_script_are_seeds_when_that_script_ships(inputs: Path, tmp_path: Path) -> None:
    code = (inputs / "code.py").read_bytes()
    hashes = {"train_gpt.py": sha256(code), "model.sqz": "1" * 64}
    runs = [
        str(log(inputs, tmp_path / "train1.log", code, seed=1)),
        str(log(inputs, tmp_path / "train2.log", code, seed=2, bpb=9.0, sha256=hashes)),
    ]
    write(inputs, tmp_path / "s", seed_runs=runs)
    claims = json.loads((tmp_path / "s" / "submission.json").read_text())
    assert [(row["seed"], row["val_bpb"]) for row in claims["seeds"]] == [
        (1, claims["val_bpb"]),
        (2, 9.0),
    ]
    assert claims["training_seconds"] == 9.5
    assert json.loads((tmp_path / "s" / "seed2.json").read_text())["config"]["code"] == sha256(code)
    other = log(inputs, tmp_path / "o.log", b"other", seed=1)
    with refused("made by another train_gpt.py"):
        write(inputs, tmp_path / "o", seed_runs=[str(other)])
    with refused("not seeds of one configuration", BadData):
        read_seed_runs([runs[0], str(log(inputs, tmp_path / "p.log", b"p", seed=3))])
    with refused("bits per byte"):
        better = log(inputs, tmp_path / "b.log", code, seed=1, bpb=1.0)
        write(inputs, tmp_path / "b", seed_runs=[str(better)])


@pytest.mark.parametrize("text", ["", "step:1", "{}", '{"bpb": NaN}', "{" * 100_000])
def test_a_log_that_tells_nothing_is_one_clear_error(text: str, tmp_path: Path) -> None:
    (tmp_path / "train.log").write_text(text)
    with refused("train.log"):
        read_seed_runs([str(tmp_path / "train.log")])


def test_a_checkpoint_tells_the_recipe(inputs: Path, tmp_path: Path) -> None:
    recipe = Recipe(matrix_lr=0.03)
    save_checkpoint(tmp_path / "m.safetensors", CONFIG, GPT(CONFIG).state_dict(), recipe)
    found = read_training(tmp_path / "m.safetensors")
    assert found.recipe["matrix_lr"] == 0.03 and found.seed is None
    save_checkpoint(tmp_path / "n.safetensors", CONFIG, GPT(CONFIG).state_dict())
    with refused("does not say how it was trained"):
        read_training(tmp_path / "n.safetensors")
    with refused("nothing says how it was trained"):
        write(inputs, tmp_path / "s", script=None)
