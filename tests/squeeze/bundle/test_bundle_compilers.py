"""Compilers that read a program's source and annotations make of a bundle what they make of it."""

from __future__ import annotations

import importlib.util
import shutil
from pathlib import Path

import pytest

from tests.squeeze.bundle.test_bundle_itself import programs, same

PROGRAMS = programs("compilers")

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def _caches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let compilers keep what they made outside the folders that are compared."""
    for name in ("TRITON_CACHE_DIR", "TORCHINDUCTOR_CACHE_DIR"):
        monkeypatch.setenv(name, str(tmp_path / name))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


@pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="Triton is not installed")
def test_kernels_give_the_same_assembly_for_a_gpu_of_compute_capability_9(tmp_path: Path) -> None:
    made = same(tmp_path, PROGRAMS["Triton"])
    assert "CAPPED:" in made.minified


@pytest.mark.parametrize("name", ["TorchScript", "a custom operator"])
def test_annotations_that_torch_reads_stay(tmp_path: Path, name: str) -> None:
    same(tmp_path, PROGRAMS[name])


@pytest.mark.skipif(shutil.which("c++") is None, reason="torch.compile needs a C++ compiler")
def test_a_compiled_model_learns_the_same_in_one_graph(tmp_path: Path) -> None:
    same(tmp_path, PROGRAMS["torch.compile"])
