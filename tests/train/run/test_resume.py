"""A run that was cut off: what is on disk continues bit for bit, and nothing else is believed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from squeeze.errors import BadCheckpoint, BadConfig, SqueezeError
from squeeze.train.data.shards import write_shard
from squeeze.train.model.config import ModelConfig
from squeeze.train.optim.recipe import Recipe
from squeeze.train.run.state import load_state
from squeeze.train.run.stop import Stopped
from squeeze.train.run.trainer import Trainer
from squeeze.train.run.training import (
    OutOfMemory,
    RunOptions,
    Training,
    TrainingDiverged,
    TrainResult,
    train,
)
from tests.tiny_text import noisy_cycle

CONFIG = ModelConfig(32, 2, 32, 2, 1, 32, seq_len=16, layer_schedule=(0, 1, 0, 1))
EVERYTHING = Recipe(
    batch_tokens=128,
    steps=24,
    average="ema",
    average_start=0.25,
    recurrence_start=0.5,
    qat_start=0.75,
    qat_rate=0.1,
    momentum_start=0.5,
    momentum_warmup=20,
)


class Crash(BaseException):
    """Ends a run as a power cut would: nothing is saved on the way out."""


def training_at(path: Path, recipe: Recipe = EVERYTHING, **options: Any) -> Training:
    """A run whose state is at `path`, before its first step."""
    return Training(CONFIG, [noisy_cycle(3000)], recipe, RunOptions(state=path, **options))


def run(path: Path, recipe: Recipe = EVERYTHING, **options: Any) -> TrainResult:
    """The result of a whole run whose state is at `path`."""
    return train(CONFIG, [noisy_cycle(3000)], recipe, RunOptions(state=path, **options))


def kill_at(number: int, training: Training, signal_number: signal.Signals) -> None:
    """Run a training and send this process a signal after one of its steps."""
    for step in training.steps():
        if step.step == number:
            os.kill(os.getpid(), signal_number)


def same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[n], second[n]) for n in first)


@pytest.mark.parametrize("average", ["none", "ema", "swa"])
@pytest.mark.parametrize("crash_at", [3, 17, 23])
def test_a_crashed_run_resumes_bit_for_bit(tmp_path: Path, average: str, crash_at: int) -> None:
    recipe = Recipe(**{**EVERYTHING.__dict__, "average": average, "swa_every": 2})
    whole = run(tmp_path / "whole", recipe)

    with pytest.raises(Crash):
        for step in training_at(tmp_path / "s", recipe, save_every=1e-9).steps():
            if step.step == crash_at:
                raise Crash
    assert load_state(tmp_path / "s")[1]["step"] == crash_at - 1
    resumed = run(tmp_path / "s", recipe, resume=True)
    assert same(whole.state_dict, resumed.state_dict)
    assert (whole.steps, whole.final_loss) == (resumed.steps, resumed.final_loss)


def test_a_killed_process_resumes_bit_for_bit(tmp_path: Path) -> None:
    write_shard(tmp_path / "a.bin", noisy_cycle(3000))
    command = [sys.executable, "-m", "squeeze", "train", "--data", str(tmp_path / "a.bin")]
    command += ["--config", CONFIG.to_json(), "--set", "batch_tokens=128", "--steps", "60"]
    command += ["--threads", "1", "--no-plot", "--out", str(tmp_path / "m.safetensors")]
    process = subprocess.Popen([*command, "--save-every", "0.01"], stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while not (tmp_path / "m.state").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert 0 < load_state(tmp_path / "m.state")[1]["step"] < 60
    assert not (tmp_path / "m.safetensors").exists()
    resumed = subprocess.run([*command, "--resume"], capture_output=True, text=True, check=False)
    assert resumed.returncode == 0, resumed.stderr
    whole = tmp_path / "whole.safetensors"
    subprocess.run([*command, "--out", str(whole)], capture_output=True, check=True)
    assert same(load_file(whole), load_file(tmp_path / "m.safetensors"))
    assert not (tmp_path / "m.state").exists()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_saves_the_state_and_ends_the_run(tmp_path: Path, number: signal.Signals) -> None:
    before = signal.getsignal(number)
    with pytest.raises(Stopped, match=f"stopped by {number.name} after step 10.*--resume"):
        kill_at(9, training_at(tmp_path / "s"), number)
    assert signal.getsignal(number) is before
    assert load_state(tmp_path / "s")[1]["step"] == 10
    resumed = run(tmp_path / "s", resume=True)
    assert same(run(tmp_path / "whole").state_dict, resumed.state_dict)


def test_a_resumed_run_has_used_its_time(tmp_path: Path) -> None:
    recipe = Recipe(batch_tokens=128, budget_seconds=100)
    ticks = iter(range(10_000))
    with pytest.raises(Stopped):
        training = training_at(tmp_path / "s", recipe, now=lambda: float(next(ticks)))
        kill_at(3, training, signal.SIGTERM)
    spent = sum(load_state(tmp_path / "s")[1]["clock"].values())
    ticks = iter(range(10_000))
    resumed = training_at(tmp_path / "s", recipe, resume=True, now=lambda: float(next(ticks)))
    steps = list(resumed.steps())
    assert steps[0].seconds > spent
    assert 95 <= steps[-1].seconds <= 100


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_a_diverged_run_keeps_its_last_good_state(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = Trainer.step

    def poisoned(trainer: Trainer, progress: float) -> tuple[torch.Tensor, torch.Tensor]:
        if trainer.done == 7:
            trainer.model.tok_emb.weight.data[3] = float("nan")
        return step(trainer, progress)

    monkeypatch.setattr(Trainer, "step", poisoned)
    with pytest.raises(TrainingDiverged, match=r"step 8.*The last good state stays in"):
        run(tmp_path / "s", save_every=1e-9)
    tensors, facts = load_state(tmp_path / "s")
    assert facts["step"] == 7
    assert all(torch.isfinite(tensor.float()).all() for tensor in tensors.values())


def test_out_of_memory_says_what_to_lower(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(trainer: Trainer, progress: float) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(Trainer, "step", full)
    with pytest.raises(OutOfMemory, match=r"found 128 tokens at once.*Set micro_tokens to 64"):
        run(tmp_path / "s")


@pytest.mark.parametrize(
    ("change", "difference"),
    [
        ({"recipe": replace(EVERYTHING, steps=25)}, "recipe; expected steps=24, found steps=25"),
        ({"seed": 1}, "seed; expected 0, found 1"),
    ],
)
def test_the_state_of_another_run_is_refused_with_what_differs(
    tmp_path: Path, change: dict[str, Any], difference: str
) -> None:
    run(tmp_path / "s", save_every=1e-9)
    with pytest.raises(BadConfig, match=f"a run with another {difference}"):
        run(tmp_path / "s", resume=True, **change)


def test_other_text_is_refused_at_the_same_length(tmp_path: Path) -> None:
    run(tmp_path / "s", save_every=1e-9)
    other = noisy_cycle(3000).copy()
    other[-1] ^= 1
    with pytest.raises(BadConfig, match="a run with another text"):
        train(CONFIG, [other], EVERYTHING, RunOptions(state=tmp_path / "s", resume=True))


@pytest.mark.parametrize("place", [b'\\"position\\"', b'"optimizer.muon', None])
def test_a_damaged_state_is_refused(tmp_path: Path, place: bytes | None) -> None:
    path = tmp_path / "s"
    run(path, save_every=1e-9)
    data = bytearray(path.read_bytes())
    data[len(data) - 50 if place is None else data.index(place) + 6] ^= 1
    path.write_bytes(data)
    with pytest.raises(BadCheckpoint, match="the state of the run is damaged"):
        run(path, resume=True)


def test_a_run_that_diverged_unsaved_promises_no_state(tmp_path: Path) -> None:
    (tmp_path / "s").write_bytes(b"of an earlier run")
    with pytest.raises(TrainingDiverged) as error:
        run(tmp_path / "s", replace(EVERYTHING, table_lr=1e30, warmup=0.0))
    assert "last good state" not in str(error.value)


def test_a_state_that_is_missing_cut_or_foreign_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "s"
    with pytest.raises(SqueezeError, match=r"no state of a run.*without --resume"):
        run(path, resume=True)
    run(path, save_every=1e-9)
    data = path.read_bytes()
    for bad in (b"", data[:-1], data[: len(data) // 2], b"PK" + data[2:], b"\xff" * 99):
        path.write_bytes(bad)
        with pytest.raises(BadCheckpoint, match="not the state of a run"):
            run(path, resume=True)
    from squeeze.train.checkpoint import save_checkpoint
    from squeeze.train.model.gpt import GPT

    save_checkpoint(path, CONFIG, GPT(CONFIG).state_dict())
    with pytest.raises(BadCheckpoint, match=r"expected metadata squeeze\.run"):
        run(path, resume=True)
