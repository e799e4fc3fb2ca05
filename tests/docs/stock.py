"""The stock that rooms are furnished from: each file that a page names, small, made once."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch
import transformers
from commands import FENCED, ROOT
from safetensors.torch import load_file, save_file

from squeeze.train.data.shards import read_shard, write_shard
from squeeze.train.model.config import ModelConfig
from squeeze.train.model.gpt import GPT
from tests.entries import Log, make_entry

VAL, TRAIN = 4_097, 65_536  # tokens
SIZES = (
    "bigram_rows=0 trigram_rows=0 model_dim=64 mlp_hidden=64 num_layers=2 seq_len=128"
    " batch_tokens=2048"
)
TRAINED = (
    "train --preset tiny --data fineweb_train_000000.bin --tokenizer sp1024.model --steps 2 --json "
    + " ".join(f"--set {size}" for size in SIZES.split())
)
# at 5 bits a weight: `squeeze submit` decodes with context coders alone, and at 1 or 7 bits of noise,
# which two steps leave, others are shorter
PACKED = (
    "pack {} -o {} --preset fast --tokens 512 --limit 111300 --code room.py"
    " --tokenizer sp1024.model"
)
ROOM = 40_000  # bytes of that file, for the script of a submission
LINES = {  # of tests/programs/baseline.py, so that it reads the challenge's tokens
    "VOCAB, WIDTH, HEADS, LAYERS, LENGTH, BATCH, STEPS = 256, 64, 4, 2, 64, 16, 60": "VOCAB, WIDTH, "
    "HEADS, LAYERS, LENGTH, BATCH, STEPS = 1024, 32, 4, 2, 64, 16, 2",
    "length = LENGTH": "length, bos = LENGTH, 1",
}
WORDS = 'def greeting(n):\n    return " ".join(["hello"] * n)\n'
MAIN = """import argparse

from words import greeting

parser = argparse.ArgumentParser()
parser.add_argument("--steps", type=int)
print(greeting(parser.parse_args().steps))
"""
RECORD = """import fused_kernels
from torch import nn


class Hyperparameters:
    num_layers, vocab_size = 9, 1024


class GPT(nn.Module):
    def __init__(self, h):
        super().__init__()
        self.table = nn.Embedding(h.vocab_size, 16)
        self.layers = nn.ModuleList(nn.Linear(16, 16) for _ in range(h.num_layers))
        self.head = nn.Linear(16, h.vocab_size)

    def forward(self, ids):
        x = self.table(ids)
        for layer in self.layers:
            x = x + layer(x)
        return self.head(x)
"""


def make_stock(folder: Path, materials: Path) -> Path:
    """Fill a folder with every file that tests/docs/rooms.py names, and return it."""
    _data(folder, materials)
    _scripts(folder)
    _trained(folder)
    _checkpoints(folder, materials)
    _records(folder)
    return folder


def squeeze(folder: Path, words: str) -> str:
    """Return stdout of a command of squeeze in a folder."""
    command = [sys.executable, "-m", "squeeze", *words.split()]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def _data(folder: Path, materials: Path) -> None:
    """Write tokenizers, shards, and a copy of the challenge's layout of both."""
    tokenizers = {"sp1024.model": "sp1024_official.model", "sp8192.model": "sp8192.model"}
    for name, source in tokenizers.items():
        shutil.copyfile(materials / "tokenizers" / source, folder / name)
    val = read_shard(materials / "fineweb" / "fineweb_val_000003_sp1024_tail.bin", VAL)
    train = read_shard(materials / "fineweb" / "fineweb_train_000000_sp1024_1M.bin", TRAIN)
    for name, tokens in {
        "fineweb_val_000000": val,
        "val": val,
        "fineweb_train_000000": train,
    }.items():
        write_shard(folder / f"{name}.bin", tokens)
    mirror = folder / "mirror"
    shards, pieces = mirror / "datasets" / "fineweb10B_sp1024", mirror / "tokenizers"
    shards.mkdir(parents=True)
    pieces.mkdir()
    write_shard(shards / "fineweb_val_000000.bin", val)
    write_shard(shards / "fineweb_train_000000.bin", train)
    shutil.copyfile(folder / "sp1024.model", pieces / "fineweb_1024_bpe.model")
    manifest: dict[str, Any] = {
        "datasets": [
            {
                "name": "fineweb10B_sp1024",
                "tokenizer_name": "sp_bpe_1024",
                "stats": {"files_train": 1, "files_val": 1},
            }
        ],
        "tokenizers": [{"name": "sp_bpe_1024", "model_path": "tokenizers/fineweb_1024_bpe.model"}],
    }
    (mirror / "manifest.json").write_text(json.dumps(manifest))


def _trained(folder: Path) -> None:
    """Train three seeds, score them, and pack the first; `old.sqz` is it without a preset."""
    for seed in (1, 2, 3):
        report = squeeze(folder, f"{TRAINED} --seed {seed} -o seed{seed}.safetensors")
        (folder / f"train{seed}.json").write_text(report)
        squeeze(folder, PACKED.format(f"seed{seed}.safetensors", f"seed{seed}.sqz"))
        score = squeeze(
            folder, f"eval seed{seed}.sqz --tokenizer sp1024.model --val val.bin --json"
        )
        (folder / f"eval{seed}.json").write_text(score)
    for name, source in {
        "model.safetensors": "seed1.safetensors",
        "model.jsonl": "seed1.jsonl",
        "model.sqz": "seed1.sqz",
        "train.json": "train1.json",
    }.items():
        shutil.copyfile(folder / source, folder / name)
    shutil.copytree(folder / "seed1.sqz.cache", folder / "model.sqz.cache")
    squeeze(folder, "pack model.safetensors -o old.sqz")
    (folder / "submission").mkdir()
    shutil.copyfile(folder / "model.sqz", folder / "submission" / "model.sqz")


def _scripts(folder: Path) -> None:
    """Write a script that trains, its weights and artifact; one that adopts; one with a module."""
    source = (ROOT / "tests" / "programs" / "baseline.py").read_text(encoding="utf-8")
    for line, other in LINES.items():
        assert source.count(line) == 1, line
        source = source.replace(line, other)
    (folder / "train_gpt.py").write_text(source)
    (folder / "room.py").write_text("#" * ROOM)
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "adopt.md").read_text(), re.DOTALL)
    lines = "".join(f"    {line}" if line.strip() else line for line in blocks[1].splitlines(True))
    (folder / "adopting.py").write_text(source.replace("    # squeeze goes here\n", lines))
    names: dict[str, Any] = {"__name__": "train_gpt"}
    exec(compile(source, "train_gpt.py", "exec"), names)
    state = names["build"]().state_dict()
    torch.save(state, folder / "script.pt")
    save_file(state, folder / "weights.safetensors")
    model = "weights.safetensors --model train_gpt.py:GPT"
    squeeze(folder, PACKED.format(model, "script.sqz"))
    (folder / "words.py").write_text(WORDS)
    (folder / "train.py").write_text(MAIN)


def _checkpoints(folder: Path, materials: Path) -> None:
    """Write checkpoints of others: layouts of records, a run of two sets, a folder of transformers."""
    int8 = materials / "checkpoints" / "nolanvild_0.48M.int8.ptz"
    shutil.copyfile(int8, folder / "final_model.int8.ptz")
    for number, name, pieces in (
        (1394, "loop45_1394", 8192),
        (1493, "record_1493", 8192),
        (1855, "banks_smear_sparse_1855", 1024),
    ):
        state = load_file(materials / "parity" / f"{name}.safetensors")
        facts = json.loads((materials / "parity" / f"{name}.json").read_bytes())
        for table in ("tok_emb.weight", "lm_head.weight"):
            if table in state:
                state[table] = state[table].repeat(pieces // 1024, 1)
        settings = facts["hyperparameters"] | {"vocab_size": pieces}
        torch.save(state, folder / f"record-{number}.pt")
        facts = {key: facts[key] for key in ("script_sha256", "switched_on")}
        (folder / f"record-{number}.json").write_text(
            json.dumps(facts | {"hyperparameters": settings})
        )
    model = GPT(ModelConfig(1024, 2, 64, 2, 1, 64, seq_len=128)).state_dict()
    model["lm_head.weight"] = model["tok_emb.weight"].clone()
    sets = {
        kind: {f"_orig_mod.module.{name}": tensor * scale for name, tensor in model.items()}
        for kind, scale in (("model", 1.0), ("ema", 0.5))
    }
    torch.save({**sets, "step": 7}, folder / "run.pt")
    torch.save(sets["ema"], folder / "plain.pt")
    config = transformers.GPT2Config(
        vocab_size=1024,
        n_positions=64,
        n_embd=32,
        n_layer=1,
        n_head=2,
        bos_token_id=1,
        eos_token_id=1,
    )
    transformers.GPT2LMHeadModel(config).save_pretrained(folder / "gpt2")


def _records(folder: Path) -> None:
    """Write two submissions with papers alone, and one whose model an adapter builds."""
    track = folder / "records" / "track_10min_16mb"
    five = {f"train_seed{n}.log": Log(n, 1.19 + n / 1e5, 1.99) for n in range(1, 6)}
    make_entry(track / "2026-04-19_Eight", name="Eight")
    make_entry(track / "2026-04-22_Nine", five, name="Nine", bytes_total=16_000_001)
    make_entry(folder / "their-submission")
    nine = folder / "records" / "nine"
    nine.mkdir()
    (nine / "train_gpt.py").write_text(RECORD)
    (page,) = (
        text
        for kind, text in FENCED.findall((ROOT / "docs" / "protocol.md").read_text())
        if text.startswith("# nine.py")
    )
    (folder / "nine.py").write_text(page)
    names: dict[str, Any] = {}
    exec(RECORD.replace("import fused_kernels\n", ""), names)
    hyperparameters = names["Hyperparameters"]()
    hyperparameters.num_layers = 11
    torch.save(names["GPT"](hyperparameters).state_dict(), nine / "final_model.pt")
