"""Files are the same to the byte whatever the number of threads and the seed of Python's hashes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from squeeze.calib.statistics.collect import collect
from squeeze.calib.statistics.fisher import collect_gradients
from squeeze.calib.text.sources import RandomTokens
from squeeze.packing.costs import mean_kl
from squeeze.train.model.config import ModelConfig
from squeeze.train.model.gpt import GPT
from tests.tiny_models import begun
from tests.tiny_text import TEXT, write_text_files

CONFIG = ModelConfig(300, 1, 64, 2, 1, 64, seq_len=32)

# Runs commands one after another in one process, printing the SHA-256 of every file that is left.
RUNNER = """
import hashlib, json, os, sys
from pathlib import Path
from click.testing import CliRunner
from squeeze.cli import cli
for arguments in json.load(sys.stdin):
    done = CliRunner().invoke(cli, arguments)
    assert done.exit_code == 0, (arguments, done.output, done.exception)
print(json.dumps({
    str(path): hashlib.sha256(path.read_bytes()).hexdigest()
    for path in sorted(Path().rglob("*")) if path.is_file() and path.suffix != ".jsonl"
}))
"""


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("inputs")
    save_file(begun(CONFIG, 5), folder / "m.safetensors", {"squeeze.config": CONFIG.to_json()})
    write_text_files(folder, [TEXT] * 9)
    (folder / "text.txt").write_text("\n".join(TEXT + str(n) for n in range(99)))
    (folder / "helper.py").write_text("def double(x):\n    return 2 * x\n")
    (folder / "entry.py").write_text("import helper\nprint({helper.double(n) for n in range(9)})\n")
    return folder


def files(inputs: Path, folder: Path, commands: list[list[str]], threads: int, seed: int) -> object:
    folder.mkdir()
    numbers = dict.fromkeys(
        ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"), str(threads)
    )
    told = json.dumps([[text.replace("{in}", str(inputs)) for text in c] for c in commands])
    done = subprocess.run(
        [sys.executable, "-c", RUNNER], input=told, capture_output=True, text=True, cwd=folder,
        env={**os.environ, **numbers, "PYTHONHASHSEED": str(seed)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


MODEL, TOKENIZER, DATA = "{in}/m.safetensors", "{in}/t.model", "{in}/d.bin"
ANY_THREADS = [
    ["pack", MODEL, "-o", "rounded.sqz"],
    ["pack", MODEL, "-o", "best.sqz", "--codecs", "all", "--quant", "all=5:12"],
    ["pack", MODEL, "-o", "fast.sqz", "--preset", "fast", "--tokens", "256", "--limit", "17000"],
    ["calibrate", MODEL, "-o", "calibration", "--source", "random", "--tokens", "4096"],
    ["unpack", "fast.sqz"],
    ["bundle", "{in}/entry.py", "-o", "train_gpt.py"],
    ["data", "tokenizer", "{in}/text.txt", "-o", "t.model", "--vocab", "290"],
    ["data", "tokenize", "{in}/text.txt", "--tokenizer", TOKENIZER, "-o", "shards", "--val-share",
     "0.3"],
    ["budget", "fast.sqz", "--html", "page.html"],
]  # fmt: skip
# torch adds in another order on another number of threads: these take theirs as an option
SAME_THREADS = [
    ["train", "--data", DATA, "--out", "trained.safetensors", "--config", CONFIG.to_json(), "--set",
     "batch_tokens=64", "--steps", "4", "--threads", "1"],
    ["pack", "trained.safetensors", "-o", "trained.sqz"],
    ["prove", "trained.sqz", "--tokenizer", TOKENIZER, "--data", DATA, "-o", "text.sqp",
     "--threads", "1"],
]  # fmt: skip


@pytest.mark.parametrize("name", ["any", pytest.param("same", marks=pytest.mark.slow)])
def test_files_are_the_same_on_one_thread_and_two_and_with_any_hash_seed(
    name: str, inputs: Path, tmp_path: Path
) -> None:
    commands = ANY_THREADS if name == "any" else SAME_THREADS
    first = files(inputs, tmp_path / "first", commands, threads=1, seed=0)
    second = files(inputs, tmp_path / "second", commands, threads=2, seed=7)
    assert isinstance(first, dict) and len(first) >= len(commands)
    assert first == second


def test_gradients_and_measured_cost_are_the_same_on_one_thread_and_two() -> None:
    config = ModelConfig(1024, 1, 64, 2, 1, 64, seq_len=64)  # wide: torch splits sums over 32,768
    model, other = (GPT(config, seed=seed).eval() for seed in (1, 2))
    text = RandomTokens(config.vocab_size, 0).draw(2048, 64)
    found = []
    before = torch.get_num_threads()
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            gradients, hessians = collect_gradients(model, text), collect(model, text)
            found.append([mean_kl(model, other, text)])
            found[-1] += [gradients.best(name).tobytes() for name in gradients.rows]
            found[-1] += [matrix.tobytes() for matrix in hessians.matrices.values()]
    finally:
        torch.set_num_threads(before)
    assert found[0] == found[1]


def test_the_runner_sees_a_file_that_differs(inputs: Path, tmp_path: Path) -> None:
    seeds = [["data", "tokenize", "{in}/text.txt", "--tokenizer", TOKENIZER, "-o", "shards",
              "--val-share", share] for share in ("0.2", "0.4")]  # fmt: skip
    found = [files(inputs, tmp_path / c[-1], [c], threads=1, seed=0) for c in seeds]
    assert found[0] != found[1]
