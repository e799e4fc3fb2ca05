"""Several processes train as one would, and end together when one of them dies."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from squeeze.ranks.group import Ranks
from squeeze.train.data.shards import write_shard
from squeeze.train.optim.optimizer import Optimizer
from squeeze.train.run.state import load_state
from squeeze.train.run.training import Training
from tests.tiny_text import noisy_cycle
from tests.train.run.rank_worker import CONFIG, RECIPE

ROOT = Path(__file__).parents[3]
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node"]
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with what two ranks wrote."""
    folder = tmp_path_factory.mktemp("ranks")
    command = [*TORCHRUN, "2", "-m", "tests.train.run.rank_worker", str(folder)]
    done = subprocess.run(command, cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return folder


def test_two_ranks_learn_what_one_process_learns(pair: Path) -> None:
    training = Training(CONFIG, [noisy_cycle(3000)], RECIPE)
    alone = [step.loss for step in training.steps()]
    result = training.result()
    together = json.loads((pair / "0-of-2.json").read_text())["losses"]
    assert len(alone) == len(together) == 50
    np.testing.assert_allclose(together[:40], alone[:40], atol=1e-4, rtol=0)
    np.testing.assert_allclose(together, alone, atol=1e-3, rtol=0)  # rounding has grown by then
    assert alone[-1] < alone[0] - 1.5  # it did learn
    for name, weight in load_file(pair / "0-of-2.safetensors").items():
        torch.testing.assert_close(weight, result.state_dict[name], atol=1e-3, rtol=0)


def test_ranks_end_with_the_same_weights_and_agree_on_every_step(pair: Path) -> None:
    first, second = (load_file(pair / f"{rank}-of-2.safetensors") for rank in range(2))
    assert all(torch.equal(first[name], second[name]) for name in first)
    losses = [json.loads((pair / f"{rank}-of-2.json").read_text())["losses"] for rank in range(2)]
    assert losses[0] == losses[1]


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="threads are listed in /proc")
def test_no_thread_of_the_group_outlives_it(pair: Path) -> None:
    # one that lets go of its last tensor while Python exits would abort the process
    for rank in range(2):
        threads = json.loads((pair / f"{rank}-of-2.json").read_text())["threads"]
        assert threads
        assert not [name for name in threads if "gloo" in name]


def test_shares_of_a_sum_are_the_same_without_reduce_scatter(pair: Path) -> None:
    for rank in range(2):
        expected = (3 * np.arange(8.0).reshape(4, 2))[2 * rank : 2 * rank + 2].tolist()
        assert json.loads((pair / f"{rank}-of-2.json").read_text())["shares"] == [expected] * 2


def test_the_state_of_two_ranks_goes_on_with_one(pair: Path) -> None:
    tensors, facts = load_state(pair / "state-2")
    assert facts["step"] == 50
    held = {name.removeprefix("optimizer."): t for name, t in tensors.items()}
    weights = {n.removeprefix("model."): t for n, t in tensors.items() if n.startswith("model.")}
    averages = {}
    for rank in range(2):  # each takes its own share of what was saved whole
        optimizer = Optimizer(weights.items(), RECIPE, Ranks(rank, 2))
        optimizer.load_state_({n: t for n, t in held.items() if n.startswith(("muon", "adam"))})
        for names, bank in zip(optimizer.bank_names, optimizer.banks, strict=True):
            for row, name in enumerate(names[rank * len(bank.averages) :][: len(bank.averages)]):
                averages[name] = bank.averages[row]
    expected = {n.removeprefix("muon."): t for n, t in held.items() if n.startswith("muon.")}
    assert averages.keys() == expected.keys()
    assert all(torch.equal(averages[name], expected[name]) for name in expected)


def test_killing_a_rank_ends_the_run_with_one_error(tmp_path: Path) -> None:
    write_shard(tmp_path / "a.bin", noisy_cycle(3000))
    command = [*TORCHRUN, "3", "-m", "squeeze", "train", "--data", str(tmp_path / "a.bin")]
    command += ["--config", CONFIG.to_json(), "--set", "batch_tokens=384", "--steps", "1000000"]
    command += ["--save-every", "0.01", "--out", str(tmp_path / "m.safetensors")]
    process = subprocess.Popen(command, env=ENVIRONMENT, stderr=subprocess.PIPE, text=True)
    try:
        deadline = time.monotonic() + 90
        while not (tmp_path / "m.state").exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        assert len(children) == 3
        killed = time.monotonic()
        os.kill(int(children[0]), signal.SIGKILL)  # the rank that writes and speaks
        errors = process.communicate(timeout=60)[1]
        assert time.monotonic() - killed < 30
    finally:
        process.kill()
    assert process.returncode not in (0, None)
    told = [line for line in errors.splitlines() if line.startswith("squeeze:")]
    assert len(told) == 1, errors
    assert "another process of the run was lost" in told[0]
    assert "--resume" in told[0]
    assert not (tmp_path / "m.safetensors").exists()
    assert load_state(tmp_path / "m.state")[1]["step"] > 0
