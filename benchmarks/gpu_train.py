"""How fast does the trainer run on GPUs? Milliseconds a step, tokens a second, MFU and peak memory.

    python benchmarks/gpu_train.py [--presets baseline,record-1855] [--steps 60]
    torchrun --nproc-per-node 8 benchmarks/gpu_train.py

Needs torch and numpy only; squeeze itself need not be installed. Tokens are random (documents of 600
tokens on average), so nothing is downloaded; what is measured is the product's own step, compiled, in
bfloat16. Without --tokens-per-gpu each GPU gets an eighth of the preset's batch, the records' share on
eight. Presets with depth recurrence are measured before and after it is switched on. Without a GPU the
script says so and ends with status 0 and no results.

The records' own rates on one of eight H100: baseline 1.50 M tokens/s, #1855 1.05 M before recurrence.
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
import time
from dataclasses import replace
from itertools import pairwise

import numpy as np
import torch
from machine import ROOT, write

if importlib.util.find_spec("squeeze") is None:  # a bare machine: run from the source folders
    sys.path.insert(0, str(ROOT))
    import squeeze

    squeeze.__path__.append(str(ROOT))

from squeeze.ranks.connect import connected, resolve_device
from squeeze.ranks.group import Ranks
from squeeze.train.data.shards import Tokens
from squeeze.train.presets import PRESETS, Preset
from squeeze.train.run.flops import flops_per_token, peak_flops
from squeeze.train.run.trainer import Trainer

WARM_UP = 10  # steps before the clock
DOCUMENT = 600  # mean tokens of a document


def random_tokens(vocab_size: int, bos: int, count: int) -> Tokens:
    """Uniform tokens with document starts at random places."""
    random = np.random.default_rng(0)
    tokens = random.integers(2, vocab_size, count).astype(np.uint16)
    tokens[random.random(count) < 1 / DOCUMENT] = bos
    return tokens


def measure(
    name: str, preset: Preset, recurrent: bool, steps: int, ranks: Ranks, compiled: bool
) -> dict[str, object]:
    """One preset with recurrence on or off."""
    torch._dynamo.reset()
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    model = preset.model
    tokens = random_tokens(model.vocab_size, model.bos_id, 1 << 25)
    start = 0.0 if recurrent else 1.0
    recipe = replace(preset.recipe, recurrence_start=start, recurrence_step=0)
    begun = time.perf_counter()
    trainer = Trainer(model, [tokens], recipe, 0, ranks)
    if compiled:
        trainer.compile_()
    for _ in range(WARM_UP):
        trainer.step(0.3)
    torch.cuda.synchronize()
    ready = time.perf_counter() - begun
    marks = [torch.cuda.Event(enable_timing=True) for _ in range(steps + 1)]
    marks[0].record()
    for mark in marks[1:]:
        loss, _ = trainer.step(0.3)
        mark.record()
    torch.cuda.synchronize()
    milliseconds = [a.elapsed_time(b) for a, b in pairwise(marks)]
    median = float(np.median(milliseconds))
    batch = trainer.tokens
    rate = 1e3 * batch / median
    peak = peak_flops(ranks.device)
    used = None if peak is None else rate * flops_per_token(model, recurrent) / peak / ranks.world
    return {
        "preset": name,
        "recurrent": recurrent if model.layer_schedule else None,
        "params": model.num_params,
        "batch_tokens": batch,
        "ms_per_step": round(median, 3),
        "ms_per_step_10_90": [round(float(q), 3) for q in np.quantile(milliseconds, [0.1, 0.9])],
        "tokens_per_second": round(rate),
        "tokens_per_second_per_gpu": round(rate / ranks.world),
        "mfu": None if used is None else round(used, 4),
        "peak_memory_gib": round(torch.cuda.max_memory_allocated() / 2**30, 2),
        "seconds_to_first_measured_step": round(ready, 1),
        "loss": round(float(loss), 3),
    }


def main() -> None:
    """Measure and write benchmarks/results/DATE-gpu-train.json."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--presets", default="baseline,record-1204,record-1493,record-1855")
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--tokens-per-gpu", type=int, default=0)
    parser.add_argument("--micro-tokens", type=int, default=0)
    parser.add_argument("--eager", action="store_true", help="without torch.compile")
    options = parser.parse_args()
    if not torch.cuda.is_available():
        print("no GPU here: nothing was measured", file=sys.stderr)
        return
    rows = []
    with connected(resolve_device("cuda")) as ranks:
        for name in options.presets.split(","):
            preset = PRESETS[name]
            share = options.tokens_per_gpu or preset.recipe.batch_tokens // 8
            recipe = replace(
                preset.recipe, batch_tokens=share * ranks.world, micro_tokens=options.micro_tokens
            )
            sized = replace(preset, recipe=recipe)
            for recurrent in (False, True) if preset.model.layer_schedule else (True,):
                try:
                    found = measure(name, sized, recurrent, options.steps, ranks, not options.eager)
                except torch.OutOfMemoryError:
                    found = {"preset": name, "recurrent": recurrent, "error": "out of memory"}
                if ranks.first:
                    print(found, flush=True)
                    rows.append(found)
        if ranks.first:
            write("gpu-train", {
                "question": "speed of a training step on GPUs, random tokens",
                "gpu": torch.cuda.get_device_name(), "gpus": ranks.world,
                "cuda": torch.version.cuda, "compiled": not options.eager, "rows": rows,
            })  # fmt: skip


if __name__ == "__main__":
    main()
