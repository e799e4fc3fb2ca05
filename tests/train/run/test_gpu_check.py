"""The check of GPUs rehearses on tiny models where there is none."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
STAGES = (
    "versions",
    "group",
    "cache",
    "operations",
    "kernels",
    "compiled",
    "steps of baseline",
    "steps of record-1493",
    "steps of record-1855",
    "text",
    "scores",
    "learning",
    "tune",
)


@pytest.mark.parametrize(
    "stages", [STAGES, pytest.param(("commands", "script", "pack"), marks=pytest.mark.slow)]
)
def test_every_stage_of_the_rehearsal_keeps_its_limits(stages: tuple[str, ...]) -> None:
    command = [sys.executable, "-W", "error", "benchmarks/gpu_check.py", "--cpu"]
    done = subprocess.run(
        [*command, "--only", ",".join(stages)], cwd=ROOT, capture_output=True, text=True
    )
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert [line["stage"] for line in lines] == list(stages), done.stderr
    assert not [line for line in lines if not line["ok"]]
    assert done.returncode == 0


WORKER = """
import os, sys, time
sys.path.insert(0, "benchmarks")
import gpu_check

gpu_check.LIMITS["text"] = 0.2  # seconds, and ten times as long in a rehearsal
gpu_check.STAGES |= {
    "kernels": lambda setting: 1 / 0,
    "cache": lambda setting: ({"away": 2.0}, {"away": 1.0}),
    "text": lambda setting: time.sleep(60),
    "compiled": lambda setting: os.kill(os.getpid(), 9),
}
sys.exit(gpu_check.main())
"""
PARENT = """
import sys
sys.path.insert(0, "benchmarks")
import gpu_check

gpu_check.WORKER = [sys.executable, sys.argv.pop(1)]
sys.exit(gpu_check.main())
"""


def test_a_stage_that_fails_hangs_or_dies_is_a_line_and_the_others_go_on(tmp_path: Path) -> None:
    worker = tmp_path / "worker.py"
    worker.write_text(WORKER)
    stages = ["kernels", "text", "cache", "compiled", "versions"]
    done = subprocess.run(
        [sys.executable, "-c", PARENT, worker, "--cpu", "--only", ",".join(stages)],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert [line["stage"] for line in lines] == stages, done.stderr
    failed, hung, broken, died, whole = lines
    assert failed["error"].startswith("ZeroDivisionError") and broken["broken"] == ["away"]
    assert "took too long" in hung["error"] and "Timeout" in done.stderr
    assert "status -9" in died["error"] and whole["ok"] and done.returncode == 1
    assert "--only 'kernels,text,cache,compiled' runs these again" in done.stderr
