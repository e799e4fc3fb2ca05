"""The kernels of a GPU give what plain PyTorch gives; without one, Triton's interpreter runs them."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch


@pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="Triton is not installed")
def test_kernels_give_what_plain_pytorch_gives() -> None:
    # the interpreter must be asked for before Triton is loaded, which torch may have done here
    interpreted = {} if torch.cuda.is_available() else {"TRITON_INTERPRET": "1"}
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-x",
            str(Path(__file__).with_name("kernel_cases.py")),
        ],
        env={**os.environ, "OMP_NUM_THREADS": "1", **interpreted},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-3000:]
    assert "skipped" not in done.stdout
