"""Encoded sizes are the ones in benchmarks/sizes.csv: no gain or loss in bytes goes unseen."""

import importlib.util
from pathlib import Path

import numba
import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.skipif(bool(numba.config.DISABLE_JIT), reason="minutes as plain Python")
def test_sizes_are_the_pinned_ones():
    spec = importlib.util.spec_from_file_location("sizes", ROOT / "benchmarks" / "sizes.py")
    sizes = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(sizes)
    found = sizes.measure()
    assert found == sizes.pinned(), "if wanted: python benchmarks/sizes.py --write"
