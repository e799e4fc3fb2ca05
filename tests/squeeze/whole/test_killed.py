"""Killed at any moment, a command leaves the old file or the new one, and the next run recovers."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from safetensors.torch import save_file

from squeeze.train.model.config import ModelConfig
from tests.killing import Command, Killable, Trial, killable, moments
from tests.tiny_models import begun
from tests.tiny_text import TEXT, write_text_files

CONFIG = ModelConfig(300, 1, 64, 2, 1, 64, seq_len=32)
OLD = b"what was there before"
MOMENTS = 50
MOST_POINTS = (
    250  # at which a command is killed one by one; of one that passes more every seventh is
)


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("inputs")
    save_file(begun(CONFIG, 5), folder / "m.safetensors", {"squeeze.config": CONFIG.to_json()})
    write_text_files(folder, [TEXT] * 3)
    return folder


@pytest.fixture(scope="module")
def process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Killable]:
    with killable(tmp_path_factory.mktemp("killable") / "server") as running:
        yield running


def resumed(*arguments: str) -> object:
    """Arguments of a training's next run: --resume where a state was saved."""
    return lambda folder: (*arguments, "--resume") if (folder / "m.state").exists() else arguments


def command(name: str, inputs: Path, process: Killable) -> Command:
    model, data, pieces = (str(inputs / file) for file in ("m.safetensors", "d.bin", "t.model"))
    if name == "pack":
        return Command(("pack", model, "-o", "m.sqz"), ("m.sqz",), {"m.sqz": OLD})
    if name == "pack to a target":
        to_target = ("--preset", "fast", "--tokens", "128", "--limit", "17000")
        return Command(("pack", model, "-o", "m.sqz", *to_target), ("m.sqz",), {"m.sqz": OLD})
    if name == "pack tuned":
        # whatever the stage that was killed, and the seconds alone differ
        tuned = ("--preset", "tuned", "--tune", "5", "--tokens", "128", "--limit", "9000")
        return Command(
            ("pack", model, "-o", "m.sqz", *tuned),
            ("m.sqz",),
            {"m.sqz": OLD},
            varying=("seconds.json",),
        )
    if name == "train":
        arguments = (
            "train", "--data", data, "--out", "m.safetensors", "--config", CONFIG.to_json(),
            "--set", "batch_tokens=64", "--steps", "5", "--threads", "1", "--no-plot", "--save-every",
            "0.000001",
        )  # fmt: skip
        return Command(
            arguments,
            ("m.safetensors",),
            {"m.safetensors": OLD, "m.jsonl": b'{"event": "begin"}\n'},
            varying=("m.jsonl",),
            again=resumed(*arguments),
        )
    if name == "unpack":
        return Command(("unpack", artifact(inputs, process), "-o", "m.safetensors"),
                       ("m.safetensors",), {"m.safetensors": OLD})  # fmt: skip
    proving = ("prove", artifact(inputs, process), "--tokenizer", pieces, "--threads", "1")
    if name == "prove":
        return Command((*proving, "--val", data, "-o", "text.sqp"), ("text.sqp",),
                       {"text.sqp": OLD})  # fmt: skip
    assert name == "prove --decode"
    proof = inputs / "text.sqp"
    if not proof.exists():
        ended = process.run(inputs, (*proving, "--val", data, "-o", "text.sqp"))
        assert ended.code == 0, ended.printed
    return Command((*proving, "--decode", str(proof), "-o", "text.txt"), ("text.txt",),
                   {"text.txt": OLD})  # fmt: skip


def artifact(inputs: Path, process: Killable) -> str:
    path = inputs / "m.sqz"
    if not path.exists():
        ended = process.run(inputs, ("pack", "m.safetensors", "-o", "m.sqz"))
        assert ended.code == 0, ended.printed
    return str(path)


FEW = {
    "pack": 2,
    "pack to a target": 2,
    "pack tuned": 2,
    "train": 2,
    "unpack": 2,
    "prove": 1,
    "prove --decode": 1,
}


@pytest.fixture(params=FEW)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def trial(name: str, inputs: Path, process: Killable, tmp_path: Path) -> Trial:
    return Trial(command(name, inputs, process), process, tmp_path / "work")


def test_killed_at_some_points_the_next_run_recovers(name: str, trial: Trial) -> None:
    assert trial.points >= 4, trial.whole.points
    for point in random.Random(name).sample(range(trial.points), FEW[name]):
        assert trial.kill(point=point)


@pytest.mark.slow
def test_killed_at_every_point_the_next_run_recovers(name: str, trial: Trial) -> None:
    for point in range(0, trial.points, 1 if trial.points <= MOST_POINTS else 7):
        assert trial.kill(point=point), trial.whole.points[point]
    assert not trial.kill(point=trial.points)
    print(f"{name}: {trial.points} points")


@pytest.mark.slow
def test_killed_at_fifty_moments_the_next_run_recovers(name: str, trial: Trial) -> None:
    times = moments(trial, MOMENTS, seed=6)
    killed = sum(trial.kill(seconds) for seconds in times)
    assert killed >= MOMENTS // 2, "most of the moments were after the end"
    print(f"{name}: {killed} of {MOMENTS} killed, at {times[0]:.2f} … {times[-1]:.2f} s")


@pytest.mark.slow
def test_killed_ten_times_in_a_row_nothing_heaps_up(name: str, trial: Trial) -> None:
    rng = random.Random(name)
    trial.kill_in_a_row(rng.randrange(trial.points) for _ in range(10))
