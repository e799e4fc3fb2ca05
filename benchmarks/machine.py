"""Where and when a measurement was made, for the head of every results file."""

from __future__ import annotations

import datetime
import json
import os
import platform
import shutil
import subprocess
from pathlib import Path
from typing import Any

from squeeze.packing.machine import this_machine

ROOT = Path(__file__).resolve().parent.parent


def facts() -> dict[str, Any]:
    """Date, commit, processor, cores, load average of the last minute, torch version and threads.

    processor: name and instruction set, since one name stands for several kinds
    """
    import torch

    commit = "unknown"  # on a bare machine without git
    if shutil.which("git"):
        commit = subprocess.run(
            ["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True
        ).stdout.strip()
    cpu = Path("/proc/cpuinfo")
    names = [
        line.split(":")[1].strip()
        for line in (cpu.read_text() if cpu.exists() else "").splitlines()
        if line.startswith("model name")
    ]
    return {
        "date": datetime.date.today().isoformat(),
        "commit": commit,
        "processor": f"{names[0] if names else platform.processor()}, {this_machine().instructions}",
        "cores": os.cpu_count(),
        "load": round(os.getloadavg()[0], 2),
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
    }


def result_path(name: str) -> Path:
    """Path of today's result of that name."""
    return ROOT / "benchmarks" / "results" / f"{datetime.date.today().isoformat()}-{name}.json"


def save(name: str, result: dict[str, Any]) -> Path:
    """Write benchmarks/results/DATE-NAME.json; return its path."""
    path = result_path(name)
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps({**facts(), **result}, indent=1) + "\n")
    return path


def write(name: str, result: dict[str, Any]) -> None:
    """Write benchmarks/results/DATE-NAME.json and print it."""
    print(save(name, result).read_text(), end="")
