"""Shared fixtures and Hypothesis profiles."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as the command line does, and why
# processes that run tests beside each other share the cores; tests that need more threads ask for them
SHARE = (os.cpu_count() or 1) // int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
os.environ.setdefault("OMP_NUM_THREADS", str(max(1, SHARE)))
ROOT = Path(__file__).resolve().parents[1]
# for modules that tests of several folders share; never tests/ itself, which holds a `squeeze`
sys.path.insert(0, str(ROOT))

settings.register_profile(
    "ci", max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile(
    "thorough", max_examples=2000, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))


@pytest.fixture(scope="session")
def materials() -> Path:
    """Folder of real checkpoints and shards; tests that need it skip with the reason when absent."""
    folder = Path(os.environ.get("SQUEEZE_MATERIALS", ROOT.parent / "shared" / "materials"))
    if not (folder / "checkpoints").is_dir():
        pytest.skip(f"real checkpoints not found at {folder}; set SQUEEZE_MATERIALS")
    return folder
