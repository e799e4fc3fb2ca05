"""Packing under torchrun: the ranks share the calibration, the first one fits and writes."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

from click.testing import CliRunner
from safetensors.torch import save_file

from squeeze.artifact.file import decode
from squeeze.cli import cli
from squeeze.train.model.config import ModelConfig
from squeeze.train.model.gpt import GPT

CONFIG = ModelConfig(128, 2, 64, 2, 1, 96, seq_len=32)


def test_two_ranks_write_one_file_that_a_single_process_goes_on_with(tmp_path: Path) -> None:
    model, out = tmp_path / "model.safetensors", tmp_path / "model.sqz"
    tensors = {name: t.clone() for name, t in GPT(CONFIG, seed=5).state_dict().items()}
    save_file(tensors, model, {"squeeze.config": CONFIG.to_json()})
    arguments = [
        "pack",
        str(model),
        "-o",
        str(out),
        "--preset",
        "fast",
        "--tokens",
        "128",
        "--json",
    ]
    arguments += ["--limit", "12000"]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    world = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    ranks = [
        subprocess.Popen(
            [sys.executable, "-m", "squeeze", *arguments],
            env={**os.environ, **world, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for rank in range(2)
    ]  # fmt: skip
    outputs = [rank.communicate(timeout=240) for rank in ranks]
    assert [rank.returncode for rank in ranks] == [0, 0], outputs
    report = json.loads(outputs[0][0])
    assert outputs[1][0] == ""
    assert 0 <= report["ledger"]["unused"] < 1000
    packed = out.read_bytes()
    decode(packed)
    again = CliRunner().invoke(cli, arguments)
    assert again.exit_code == 0
    assert "scale" not in again.stderr
    assert json.loads(again.stdout)["fit"]["sha256"] == report["fit"]["sha256"]
    assert out.read_bytes() == packed
