"""How long does packing a model of a record's size take, stage by stage, and how much memory?

python benchmarks/pack_speed.py --preset best

The model has the shape of record #1493 (11 layers × 512, MLP × 4, 8,192 tokens: 35.9M weights) and
random weights like Muon's: orthogonal but for singular values spread by half an octave or so.
Processor seconds stand beside wall seconds: on a busy machine only the former compare.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from machine import write

from squeeze.checkpoint.read import load_model
from squeeze.packing.calibrate import Calibration, default_tokens
from squeeze.packing.pack import pack_model
from squeeze.packing.presets import TARGETS
from squeeze.packing.request import PackRequest
from squeeze.reporter import Reporter
from squeeze.train.checkpoint import save_checkpoint
from squeeze.train.model.config import ModelConfig
from squeeze.train.model.gpt import GPT

CONFIG = ModelConfig(8192, 11, 512, 8, 4, 2048, seq_len=2048)
LIMIT = 15_900_000  # bytes: what record entries leave beside their code
SPREAD = 0.5  # standard deviation of the singular values' logarithms


def write_model(path: Path) -> None:
    """A checkpoint of random weights, the same every time."""
    generator = torch.Generator().manual_seed(0)
    weights = GPT(CONFIG, seed=0).state_dict()
    for name, weight in weights.items():
        if name == "tok_emb.weight":
            weight.normal_(std=0.05, generator=generator)
        elif weight.ndim == 2:
            u, _, v = torch.linalg.svd(
                torch.randn(weight.shape, generator=generator), full_matrices=False
            )
            values = torch.exp(SPREAD * torch.randn(u.shape[1], generator=generator))
            weight.copy_((u * values) @ v)
    save_checkpoint(path, CONFIG, weights)


class Stages(Reporter):
    """Wall and processor seconds of each stage; a stage ends where the next begins."""

    def __init__(self) -> None:
        self.rows: list[dict[str, float | str]] = []
        self.begin("read, try without loss")

    @contextmanager
    def stage(self, name: str, total: float | None = None, unit: str = "") -> Iterator[Reporter]:
        self.begin(name)
        yield self

    def trial(self, scale: float, size: int) -> None:
        self.begin(f"after a trial of {size:,} bytes")

    def begin(self, name: str) -> None:
        self.end()
        self.rows.append(
            {"stage": name, "wall_s": time.perf_counter(), "cpu_s": time.process_time()}
        )

    def end(self) -> None:
        """Turn the last row's clock readings into durations."""
        if self.rows and "done" not in self.rows[-1]:
            row = self.rows[-1]
            row["wall_s"] = round(time.perf_counter() - float(row["wall_s"]), 1)
            row["cpu_s"] = round(time.process_time() - float(row["cpu_s"]), 1)
            row["done"] = "yes"
            print(f"{row['stage']:<40}{row['wall_s']:>9} s wall{row['cpu_s']:>9} s cpu", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--preset", choices=list(TARGETS), default="fast")
    parser.add_argument("--tokens", type=int, default=default_tokens(CONFIG.num_params))
    parser.add_argument("--folder", type=Path, help="keeps model and calibration between runs")
    options = parser.parse_args()
    folder = options.folder or Path(tempfile.mkdtemp())
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "model.safetensors"
    if not path.exists():
        write_model(path)
    wall, cpu, stages = time.perf_counter(), time.process_time(), Stages()

    request = PackRequest(
        LIMIT,
        options.preset,
        calibration=Calibration(tokens=options.tokens),
        cache=folder / "cache",
    )
    packed = pack_model(load_model(path), request, stages)
    stages.end()
    for row in stages.rows:
        row.pop("done", None)
    result = {
        "preset": options.preset,
        "weights": CONFIG.num_params,
        "tokens": options.tokens,
        "wall_s": round(time.perf_counter() - wall, 1),
        "cpu_s": round(time.process_time() - cpu, 1),
        "peak_MiB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10,
        "unused": LIMIT - len(packed.data),
        "stages": stages.rows,
    }
    write(f"pack-speed-{options.preset}", result)


if __name__ == "__main__":
    main()
