"""One class of ranks serves a process alone, and each of several, with the same calls."""

from __future__ import annotations

import json
import os
import runpy
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from click.testing import CliRunner
from safetensors.torch import save_file

from squeeze.cli import cli
from squeeze.errors import BadConfig, SqueezeError
from squeeze.ranks.connect import connected, resolve_device
from squeeze.ranks.group import RankLost, Ranks, lost_peers
from squeeze.ranks.launched import connected_run, launched
from squeeze.train.model.config import ModelConfig
from tests.tiny_models import begun

ROOT = Path(__file__).parents[3]
WORKER = Path(__file__).with_name("ranks_worker.py")


def test_a_run_of_one_gets_its_own_values_back() -> None:
    assert runpy.run_path(str(WORKER))["answers"](Ranks()) == {
        "first": True,
        "dealt": [0, 1, 2, 3, 4],
        "sum": [[1.0, 2.0]],
        "gathered": [[1.0, 2.0]],
        "shares": [1.0],
        "exchanged": [0.0],
        "ordered": [True, True],
        "from_first": 7.5,
        "on_all": [True, True, False],
        "result": "from rank 0",
        "failure": "integer division or modulo by zero",
    }


# "cuda:gloo" has no backend for the CPU, as a group of NCCL has none, and needs no GPU
@pytest.mark.parametrize(("backend", "world"), [("", 2), ("gloo", 2), ("cuda:gloo", 4)])
def test_each_rank_gets_the_values_of_all(tmp_path: Path, backend: str, world: int) -> None:
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    worker = ["-m", "tests.squeeze.ranks.ranks_worker", str(tmp_path), backend]
    command = [*torchrun, "--nproc-per-node", str(world), *worker]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for rank in range(world):
        assert json.loads((tmp_path / f"{rank}.json").read_text()) == {
            "first": rank == 0,
            "dealt": list(range(rank, 5, world)),
            "sum": [[world * (world + 1) / 2, 2.0 * world]],
            "gathered": [[1.0 + other, 2.0] for other in range(world)],
            "shares": [world * (rank + 1.0)],
            "exchanged": [10.0 * other + rank for other in range(world)],
            "ordered": [True, True],
            "from_first": 7.5,
            "on_all": [True, False, False],
            "result": "from rank 0",
            "failure": "integer division or modulo by zero",
        }


def test_a_process_that_nobody_started_as_a_rank_is_a_run_of_one() -> None:
    with connected(torch.device("cpu")) as ranks:
        assert ranks == Ranks.current() == Ranks()


def test_a_lost_peer_is_one_error_that_says_how_to_go_on() -> None:
    message = "(?s)another process of the run was lost.*closed by peer.*--resume"
    with pytest.raises(RankLost, match=message), lost_peers():
        raise RuntimeError("Connection closed by peer")


ENDING = """
import os, signal, sys
import torch
import torch.distributed as dist
from click.testing import CliRunner
from safetensors.torch import save_file
from squeeze.errors import SqueezeError
from squeeze.ranks.connect import connected

dist.init_process_group = lambda **options: None
dist.destroy_process_group = lambda: os.kill(os.getpid(), signal.SIGTERM)
try:
    with connected(torch.device("cpu")):
        raise SqueezeError("the report")
except SqueezeError as error:
    sys.exit(str(error))
"""


def test_torchrun_ending_the_ranks_does_not_cut_off_the_report_of_one() -> None:
    done = subprocess.run(
        [sys.executable, "-c", ENDING],
        env={**os.environ, "WORLD_SIZE": "2", "RANK": "0"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (1, "the report\n")


def test_a_ranks_own_gpu_is_the_one_with_its_number_and_becomes_the_current_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    current: list[torch.device] = []
    monkeypatch.setenv("LOCAL_RANK", "5")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "set_device", current.append)
    monkeypatch.setattr(torch, "ones", lambda size, device: None)
    for name in (None, "cuda"):
        assert resolve_device(name) == torch.device("cuda", 5)
    assert resolve_device("cuda:2") == torch.device("cuda", 2)
    assert [device.index for device in current] == [5, 5, 2]
    assert resolve_device("cpu") == torch.device("cpu")


def test_a_gpu_that_torch_has_no_kernels_for_is_named_in_a_line(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def launch(size: int, device: torch.device) -> None:
        raise RuntimeError("CUDA error: no kernel image is available\nSearch for more")

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch.cuda, "set_device", lambda device: None)
    monkeypatch.setattr(torch, "ones", launch)
    with pytest.raises(
        BadConfig, match=r"'cuda:0' cannot be used; .*no kernel image is available$"
    ):
        resolve_device()


def test_one_gpu_for_all_processes_of_torchrun_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    with pytest.raises(BadConfig, match=r"'cuda:1' cannot be used; .*as cuda each takes its own"):
        resolve_device("cuda:1")


@pytest.mark.parametrize(("device", "closed"), [("cuda:0", 0), ("cpu", 1)])
def test_after_an_error_a_rank_on_a_gpu_does_not_wait_for_the_others(
    device: str, closed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    # NCCL's end of a group waits for ranks that wait for this one
    calls: list[int] = []
    for name, value in {"WORLD_SIZE": "2", "RANK": "0"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(dist, "init_process_group", lambda **options: None)
    monkeypatch.setattr(dist, "destroy_process_group", lambda: calls.append(1))
    with pytest.raises(SqueezeError, match="the report"), connected(torch.device(device)):
        raise SqueezeError("the report")
    assert len(calls) == closed
    with connected(torch.device(device)):
        pass
    assert len(calls) == closed + 1


def test_the_group_of_gpus_has_a_backend_for_each_kind_of_device(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    started: dict[str, object] = {}
    for name, value in {"WORLD_SIZE": "2", "RANK": "1"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(dist, "init_process_group", lambda **options: started.update(options))
    monkeypatch.setattr(dist, "destroy_process_group", lambda: None)
    gpu = torch.device("cuda", 1)
    with connected(gpu) as ranks:
        assert ranks == Ranks(1, 2, gpu)
        assert Ranks.current().device == gpu
    assert started["backend"] == "cpu:gloo,cuda:nccl" and started["device_id"] == gpu
    assert Ranks.current() == Ranks()


WHOLE = {"WORLD_SIZE": "2", "RANK": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29500"}
ALL = {**WHOLE, "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2"}


def describe(variables: Mapping[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ALL:
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({"WORLD_SIZE": "2"}, "WORLD_SIZE=2 without RANK, MASTER_ADDR, MASTER_PORT"),
        ({"RANK": "1"}, "RANK=1 without WORLD_SIZE"),
        ({**ALL, "LOCAL_RANK": "first"}, "LOCAL_RANK='first', which is no number"),
        ({**ALL, "LOCAL_WORLD_SIZE": ""}, "LOCAL_WORLD_SIZE='', which is no number"),
        ({**ALL, "WORLD_SIZE": "-2"}, "WORLD_SIZE='-2', which is no number"),
        ({**ALL, "WORLD_SIZE": "0"}, "WORLD_SIZE=0"),
        ({**ALL, "RANK": "2"}, "RANK=2 of WORLD_SIZE=2"),
        ({**ALL, "MASTER_PORT": "http"}, "MASTER_PORT='http', which is no number"),
        ({**ALL, "MASTER_PORT": "70000"}, "MASTER_PORT=70000, which is no port"),
        *(
            ({**ALL, missing: None}, f"without {missing}")
            for missing in ("RANK", "MASTER_ADDR", "MASTER_PORT")
        ),
    ],
)
def test_half_a_description_of_a_run_is_one_error(
    variables: dict[str, str | None], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    describe({n: value for n, value in variables.items() if value is not None}, monkeypatch)
    monkeypatch.setattr(dist, "init_process_group", lambda **options: pytest.fail("connected"))
    for begin in (launched, connected_run().__enter__):
        with pytest.raises(BadConfig, match=r"run of several processes; .*torchrun") as caught:
            begin()
        assert said in str(caught.value)


@pytest.mark.parametrize(
    ("variables", "numbers"),
    [
        ({}, (0, 1)),
        ({"LOCAL_RANK": "0"}, (0, 1)),
        ({"WORLD_SIZE": "1"}, (0, 1)),
        ({"MASTER_ADDR": "node"}, (0, 1)),
        (ALL, (1, 2)),
    ],
)
def test_a_whole_description_or_none_gives_number_and_count(
    variables: dict[str, str], numbers: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    describe(variables, monkeypatch)
    assert launched() == numbers


@pytest.mark.parametrize("command", ["pack --preset fast", "calibrate"])
def test_commands_say_that_half_a_run_is_described(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    describe({"RANK": "1"}, monkeypatch)
    config, model = ModelConfig(256, 1, 32, 2, 1, 64, seq_len=32), tmp_path / "m.safetensors"
    save_file(begun(config, 1), model, {"squeeze.config": config.to_json()})
    done = CliRunner().invoke(cli, [*command.split(), str(model), "-o", str(tmp_path / "out")])
    assert isinstance(done.exception, BadConfig) and "RANK=1 without WORLD_SIZE" in str(
        done.exception
    )
