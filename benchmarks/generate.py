"""How much faster is self-generated calibration text with a key/value cache than without?

The method without a cache is that of #1019: batches of 8, a full forward over all tokens so far for
each new one. It is too slow to run out, so its steps are timed at a few lengths and summed by the
trapezoid rule; a short run in full checks the estimate. The cached runs are measured whole.
CPU seconds of one thread are compared, since other programs may share the machine; wall seconds stand
beside them. Runs about ten minutes:  python benchmarks/generate.py
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from inputs import materials
from machine import write

from squeeze.calib.text.generate import generate
from squeeze.checkpoint.read import load_model
from squeeze.train.model.cache import Cache
from squeeze.train.model.gpt import GPT

RECORD_BATCH = 8
LENGTHS = (1, 64, 256, 512, 1024, 1536, 2047)  # tokens read by a timed step
CHECKED = 129  # tokens of the short run in full


def timed(work: Callable[[], object]) -> tuple[float, float]:
    """Wall and CPU seconds."""
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - wall, time.process_time() - cpu


@torch.inference_mode()
def cacheless_step(model: GPT, ids: torch.Tensor) -> torch.Tensor:
    chances = torch.softmax(model(ids)[:, -1] / 0.8, dim=-1)
    return torch.multinomial(chances, 1)


def cacheless_run(model: GPT, length: int) -> None:
    ids = torch.randint(model.config.vocab_size, (RECORD_BATCH, 1))
    while ids.size(1) < length:
        ids = torch.cat([ids, cacheless_step(model, ids)], dim=1)


def cacheless_costs(model: GPT) -> list[dict[str, float]]:
    """Wall and CPU seconds of one step of a batch at each length: the best of three."""
    rows = []
    for length in LENGTHS:
        ids = torch.randint(model.config.vocab_size, (RECORD_BATCH, length))
        cacheless_step(model, ids)
        best = min(timed(lambda ids=ids: cacheless_step(model, ids)) for _ in range(3))
        rows.append({"length": length, "wall_s": best[0], "cpu_s": best[1]})
    return rows


def integrate(rows: list[dict[str, float]], last: int) -> float:
    """CPU seconds of the steps that read 1..last tokens, linear between the timed lengths."""
    steps = np.arange(1, last + 1)
    return float(np.interp(steps, [r["length"] for r in rows], [r["cpu_s"] for r in rows]).sum())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--checkpoint", default="reference_8.7M_fp32.safetensors")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    loaded = load_model(materials() / "checkpoints" / options.checkpoint, like="baseline")
    model = GPT.from_tensors(loaded.config, loaded.tensors).requires_grad_(False)

    costs = cacheless_costs(model)
    check = timed(lambda: cacheless_run(model, CHECKED))[1]
    groups = 64 // RECORD_BATCH
    cacheless = groups * integrate(costs, 2047)
    cached = []
    for count, length, batch in ((64, 2048, 64), (256, 512, 64), (256, 512, 256)):
        work = partial(
            generate, partial(Cache, model), model.config.vocab_size, count, length, batch=batch
        )
        wall, cpu = timed(work)
        row = {"sequences": count, "length": length, "batch": batch, "wall_s": wall, "cpu_s": cpu}
        cached.append({**row, "tokens_per_cpu_s": count * length / cpu})
    write(
        "generate",
        {
            "checkpoint": options.checkpoint,
            "cacheless_steps": costs,
            "cacheless_check": {
                "length": CHECKED,
                "cpu_s": check,
                "estimated_cpu_s": integrate(costs, CHECKED - 1),
            },
            "cacheless_64x2048_estimated_cpu_s": cacheless,
            "cacheless_tokens_per_cpu_s": 64 * 2048 / cacheless,
            "cached": cached,
            "ratio_64x2048": cacheless / cached[0]["cpu_s"],
        },
    )


if __name__ == "__main__":
    main()
