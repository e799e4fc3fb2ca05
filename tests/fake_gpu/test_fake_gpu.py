"""Everything that a GPU computes stays there: every preset, on a device that only checks its inputs.

Fake tensors know device, dtype and shape, and their operations refuse what a GPU refuses.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from squeeze.train.presets import PRESETS

FOLDER = Path(__file__).parent
TORCH = Path(torch.__file__).parent
GPU = ["cuda:0"]


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the compiled device."""
    compiler = shutil.which("g++")
    if compiler is None or not (TORCH / "include" / "ATen").is_dir():
        pytest.skip("a fake GPU needs g++ and torch's headers")
    if torch.version.cuda is not None:
        pytest.skip("this torch is built for CUDA and has a device of its own")
    path = tmp_path_factory.mktemp("device") / "device.so"
    command = [compiler, "-std=c++20", "-shared", "-fPIC", f"-I{TORCH / 'include'}"]
    command += [str(FOLDER / "device.cpp"), f"-L{TORCH / 'lib'}", "-lc10", "-ltorch_cpu"]
    subprocess.run([*command, "-o", str(path)], check=True)
    return path


# one of them each time; tests/train/model/test_devices.py tries all quickly, on the meta device
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow][name == "tiny" :]) for name in PRESETS]
)
def test_steps_caches_and_statistics_stay_on_the_gpu(library: Path, name: str) -> None:
    command = [sys.executable, "-W", "error", "-m", "tests.fake_gpu.run", str(library), name]
    done = subprocess.run(command, cwd=FOLDER.parents[1], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    row = json.loads(done.stdout)
    assert row.pop("preset") == name
    assert row.pop("host") == ["cpu"]  # weights that are written to a file
    assert len(row) == 8 and all(devices == GPU for devices in row.values()), row
