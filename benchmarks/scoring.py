"""What scoring costs beyond the bare forward, and what reading context cheaply saves.

CPU seconds of one thread, since other programs may share the machine: the two sides of each ratio take
turns in one process, and each counts its fastest turn.
    window   score_windows against the model's forward over the same tokens, in the same batches
    sliding  score_plan, length 1,024 and stride 64, against one whole window at a time
Runs about three minutes:  python benchmarks/scoring.py
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from inputs import materials
from machine import write

from squeeze.checkpoint.read import load_model
from squeeze.score.plan import Plan, sliding
from squeeze.score.tokenizer import ByteTable, Text, Tokens
from squeeze.score.window import batch_outputs, score_plan, score_windows
from squeeze.train.data.shards import read_shard
from squeeze.train.model.gpt import GPT
from squeeze.train.presets import find_preset

CHECKPOINTS = {
    "nolanvild_0.48M_fp32.pt": {"like": "baseline", "mlp_power": 3, "seq_len": 256},
    "samtruss_7.6M_65176d11.int8.ptz": {"like": "baseline", "seq_len": 1024},
    "reference_8.7M_fp32.safetensors": {},
}
PRESET = "record-1493"  # 36M weights, vocabulary 8,192; random ones here, since only time counts
SHARD = "fineweb_val_000003_sp1024_tail.bin"
LENGTH, STRIDE = 1024, 64


def turns(count: int, *works: Callable[[], object]) -> list[float]:
    """Fewest CPU seconds of each work over `count` turns."""
    best = [float("inf")] * len(works)
    for _ in range(count):
        for place, work in enumerate(works):
            started = time.process_time()
            work()
            best[place] = min(best[place], time.process_time() - started)
    return best


@torch.inference_mode()
def bare(model: GPT, tokens: Tokens, seq_len: int) -> None:
    """The forward alone, in the batches that scoring uses."""
    ids = torch.from_numpy(tokens[:-1].astype(np.int64)).view(-1, seq_len)
    for rows in ids.split(max(1, batch_outputs(model) // seq_len)):
        model(rows)


@torch.inference_mode()
def naive(model: GPT, tokens: Tokens, plan: Plan) -> float:
    """Nats by whole windows, one at a time."""
    nats = 0.0
    for start, first, stop in zip(plan.start, plan.first, plan.stop, strict=True):
        ids = torch.from_numpy(tokens[start : stop + 1].astype(np.int64))
        losses = F.cross_entropy(model(ids[None, :-1])[0], ids[1:], reduction="none")
        nats += float(losses[first - start :].double().sum())
    return nats


def measure(name: str, model: GPT, tokens: Tokens, count: int, windows: int) -> dict[str, Any]:
    """Both ratios of a model, on windows·512 tokens and on that many sliding windows."""
    vocab_size, seq_len = model.config.vocab_size, model.config.seq_len
    table = ByteTable(
        np.ones(vocab_size, np.int32), np.zeros(vocab_size, bool), np.zeros(vocab_size, bool)
    )
    span = tokens[: windows * 512 + 1]
    scored, forward = turns(
        count,
        lambda: score_windows(model, Text(span, table), seq_len),
        lambda: bare(model, span, seq_len),
    )
    slid = tokens[: LENGTH + windows * STRIDE + 1]
    plan = sliding(len(slid) - 1, LENGTH, STRIDE)
    plan = plan.select(plan.first > plan.start)  # the first window is the same in both
    ours, whole = turns(
        count,
        lambda: score_plan(model, Text(slid, table), plan),
        lambda: naive(model, slid, plan),
    )
    nats = score_plan(model, Text(slid, table), plan).nats
    return {
        "model": name,
        "vocab_size": vocab_size,
        "seq_len": seq_len,
        "window_cpu_s": scored,
        "forward_cpu_s": forward,
        "window_over_forward": scored / forward,
        "sliding_windows": len(plan),
        "sliding_cpu_s": ours,
        "naive_cpu_s": whole,
        "naive_over_sliding": whole / ours,
        "sliding_error": abs(nats / naive(model, slid, plan) - 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--turns", type=int, default=4)
    options = parser.parse_args()
    torch.set_num_threads(1)
    tokens = read_shard(materials() / "fineweb" / SHARD, 1 << 14)
    rows = []
    for name, fields in CHECKPOINTS.items():
        loaded = load_model(materials() / "checkpoints" / name, **fields)
        model = GPT.from_tensors(loaded.config, loaded.tensors).requires_grad_(False)
        rows.append(measure(name, model, tokens, options.turns, 8))
    model = GPT(find_preset(PRESET).model).requires_grad_(False)
    rows.append(measure(PRESET, model, tokens, max(1, options.turns // 2), 4))
    write("scoring", {"length": LENGTH, "stride": STRIDE, "threads": 1, "rows": rows})


if __name__ == "__main__":
    main()
