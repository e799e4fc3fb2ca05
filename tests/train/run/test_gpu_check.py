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
    "kernels",
    "compiled",
    "steps",
    "cache",
    "text",
    "operations",
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


def test_a_stage_that_fails_is_a_line_and_the_others_go_on() -> None:
    code = (
        "import sys; sys.path.insert(0, 'benchmarks'); import gpu_check, gpu_stages\n"
        "gpu_stages.STAGES['text'] = lambda setting: 1 / 0\n"
        "gpu_stages.STAGES['cache'] = lambda setting: ({'away': 2.0}, {'away': 1.0})\n"
        "sys.argv[1:] = ['--cpu', '--only', 'text,cache,versions']\n"
        "sys.exit(gpu_check.main())"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    failed, broken, whole = map(json.loads, done.stdout.splitlines())
    assert failed["error"].startswith("ZeroDivisionError") and broken["broken"] == ["away"]
    assert whole["ok"] and done.returncode == 1
