"""Loads the fake GPU and runs the worker: python -m tests.fake_gpu.run LIBRARY [PRESET …]."""

from __future__ import annotations

import ctypes
import importlib.util
import runpy
import sys
from pathlib import Path


def main(library: str) -> None:
    """Load the device before torch, which asks once whether there is one, and run the worker."""
    spec = importlib.util.find_spec("torch")
    assert spec is not None and spec.origin is not None
    for name in ("libtorch_global_deps.so", "libc10.so", "libtorch_cpu.so"):
        ctypes.CDLL(str(Path(spec.origin).parent / "lib" / name), ctypes.RTLD_GLOBAL)
    ctypes.CDLL(library)
    runpy.run_module("tests.fake_gpu.worker", run_name="__main__")


if __name__ == "__main__":
    main(sys.argv.pop(1))
