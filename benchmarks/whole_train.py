"""One training of benchmarks/whole.py: a preset and settings, for so many CPU seconds in all.

Everything counts that the process has used when the model is written, compilation and imports included.
A first training of one step compiles; the second, which counts, gets the time that is left.
"""

from __future__ import annotations

import argparse
import json
import os
from dataclasses import replace
from pathlib import Path

import torch

from squeeze.train.checkpoint import save_checkpoint
from squeeze.train.data.shards import map_shard
from squeeze.train.presets import find_preset
from squeeze.train.run.training import RunOptions, Training


def cpu_seconds() -> float:
    """Return the CPU seconds of this process and of the compilers that it started."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--preset", required=True)
    parser.add_argument("--set", dest="settings", action="append", default=[])
    parser.add_argument("--cpu-seconds", type=float, required=True)
    parser.add_argument(
        "--again", type=float, default=12.0, help="kept for a second warm-up, export"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    torch.set_num_threads(1)
    preset = find_preset(options.preset).with_settings(options.settings)
    shards = [map_shard(options.data)]
    once = replace(preset.recipe, budget_seconds=0.0, reserve_seconds=0.0, steps=1)
    for _ in Training(preset.model, shards, once, RunOptions(compiled=True)).steps():
        pass
    compiled = cpu_seconds()
    left = options.cpu_seconds - compiled - options.again
    recipe = replace(preset.recipe, budget_seconds=left, reserve_seconds=0.0)
    run = RunOptions(seed=options.seed, compiled=True, now=cpu_seconds)
    training = Training(preset.model, shards, recipe, run)
    for _ in training.steps():
        pass
    result = training.result()
    save_checkpoint(options.out, preset.model, result.state_dict)
    facts = {
        "weights": preset.model.num_params,
        "steps": result.steps,
        "tokens_seen": result.tokens_seen,
        "loss": result.final_loss,
        "compiled_cpu_s": compiled,
        "trained_cpu_s": cpu_seconds(),
        "clock": {row.stage: round(row.seconds, 2) for row in result.clock.ledger()},
    }
    print(json.dumps(facts))


if __name__ == "__main__":
    main()
