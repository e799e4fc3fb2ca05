"""How far does the `tiny` preset come in five minutes of a two-core machine?

Trains with `squeeze train --preset tiny --compile` on 1M tokens of FineWeb (several times: the score is
of such text) and an encyclopedia's prose, their documents shuffled into one shard. Then `squeeze eval`
scores the first 131,072 targets of the FineWeb validation tail: windows that do not overlap, float32.
The wallclock of the whole training command is the budget: imports, compilation with an empty cache,
warm-up and export are inside. Tokenising and shuffling come before, as data preparation.

--cpu-seconds N trains by this process's CPU time on one thread instead, for a machine that is busy.
"""

from __future__ import annotations

import argparse
import json
import lzma
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from inputs import ROOT, materials
from machine import write

from squeeze.train.data.shards import Tokens, read_shard, write_shard
from squeeze.train.data.text import BOS, encode_documents

FINEWEB = materials() / "fineweb" / "fineweb_train_000000_sp1024_1M.bin"
VALIDATION = materials() / "fineweb" / "fineweb_val_000003_sp1024_tail.bin"
PROSE = materials() / "text" / "enwik8_prose_first20MB.txt.xz"
TOKENIZER = materials() / "tokenizers" / "sp1024_official.model"
TARGETS = 131_072
DOCUMENT = 3000  # characters; the prose has no marks between articles, so it is cut at line ends


def prose_documents(text: str) -> list[str]:
    """Whole paragraphs joined until a document has DOCUMENT characters; the rest is the last one."""
    documents, lines, size = [], list[str](), 0
    for line in filter(None, map(str.strip, text.split("\n"))):
        lines.append(line)
        size += len(line)
        if size > DOCUMENT:
            documents.append(" ".join(lines))
            lines, size = [], 0
    return [*documents, " ".join(lines)] if lines else documents


def split_documents(tokens: Tokens) -> list[Tokens]:
    """Tokens uint16 [n] cut before each BOS."""
    parts: list[Tokens] = np.split(tokens, np.flatnonzero(tokens == BOS))
    return [part for part in parts if len(part)]


def prepare(folder: Path, passes: int) -> Path:
    """One shard of all training documents in random order, FineWeb's `passes` times; made once.

    Copies of a shard, given to the loader side by side, would not do: its fixed stride meets the same
    window in several copies soon after one another.
    """
    shard = folder / f"mix-{passes}_sp1024.bin"
    if not shard.exists():
        folder.mkdir(parents=True, exist_ok=True)
        text = lzma.decompress(PROSE.read_bytes()).decode("utf-8")
        documents = split_documents(encode_documents(prose_documents(text), TOKENIZER))
        documents += split_documents(read_shard(FINEWEB)) * passes
        order = np.random.default_rng(0).permutation(len(documents))
        write_shard(shard, np.concatenate([documents[i] for i in order]))
    return shard


def squeeze(*arguments: object) -> dict[str, Any]:
    """The JSON that a command prints, in a process that has compiled nothing before."""
    with tempfile.TemporaryDirectory() as cache:
        done = subprocess.run(
            [sys.executable, "-m", "squeeze", *map(str, arguments), "--json"],
            # a machine of its own: threads that spin at barriers train 1.4 times as fast (docs/log.md)
            env=os.environ | {"TORCHINDUCTOR_CACHE_DIR": cache, "OMP_WAIT_POLICY": "ACTIVE"},
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
    report: dict[str, Any] = json.loads(done.stdout)
    return report


def by_cpu_time(shard: Path, out: Path, seconds: float, settings: list[str]) -> Any:
    """Train in this process with its CPU time as the clock; returns what `squeeze train` reports."""
    import torch

    from squeeze.train.checkpoint import save_checkpoint
    from squeeze.train.data.shards import map_shard
    from squeeze.train.presets import find_preset
    from squeeze.train.run.training import RunOptions, Training

    torch.set_num_threads(1)
    preset = find_preset("tiny").with_settings(settings)
    recipe = replace(preset.recipe, budget_seconds=seconds)
    options = RunOptions(compiled=True, now=time.process_time)
    training = Training(preset.model, [map_shard(shard)], recipe, options)
    losses: list[float] = []
    for step in training.steps():
        losses.append(step.loss)
        if step.step % 40 == 0:
            mean = sum(losses[-40:]) / 40
            print(f"step {step.step}, {step.seconds:.0f} s, loss {mean:.3f}", file=sys.stderr)
    result = training.result()
    save_checkpoint(out, preset.model, result.state_dict)
    return {
        "params": preset.model.num_params,
        "steps": result.steps,
        "tokens_seen": result.tokens_seen,
        "clock": [vars(row) for row in result.clock.ledger()],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seconds", type=float, default=265.0, help="budget after compilation")
    parser.add_argument("--cpu-seconds", type=float, help="of one thread, instead of --seconds")
    parser.add_argument("--fineweb-passes", type=int, default=3, help="copies of FineWeb's text")
    parser.add_argument("--folder", type=Path, default=ROOT / "out" / "tiny")
    parser.add_argument("--set", dest="settings", action="append", default=[], help="of the preset")
    parser.add_argument("--no-write", action="store_true", help="only print")
    options = parser.parse_args()
    shard = prepare(options.folder, options.fineweb_passes)
    out = options.folder / "tiny.safetensors"
    begun = time.perf_counter()
    if options.cpu_seconds:
        report = by_cpu_time(shard, out, options.cpu_seconds, options.settings)
    else:
        named = [part for setting in options.settings for part in ("--set", setting)]
        budget = ("--budget-seconds", options.seconds, "--save-every", 0, "--no-plot")
        report = squeeze(
            "train", "--preset", "tiny", "--compile", "--data", shard, *named, *budget, "-o", out
        )
    wall = time.perf_counter() - begun
    score = squeeze("eval", out, "--tokenizer", TOKENIZER, "--val", VALIDATION, "--tokens", TARGETS)
    result = {
        "budget": f"{options.cpu_seconds:g} CPU-seconds of one thread, compilation apart"
        if options.cpu_seconds
        else f"{options.seconds:g} s after compilation",
        "wall_seconds": round(wall, 1),
        **{key: report[key] for key in ("params", "steps", "tokens_seen", "clock")},
        "fineweb_passes": options.fineweb_passes,
        "settings": options.settings,
        "score": score,
    }
    if options.no_write:
        print(json.dumps(result, indent=1))
    else:
        write("tiny", result)


if __name__ == "__main__":
    main()
