"""README and docs/results.md hold what the results on disk give."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_no_number_of_the_front_page_is_typed() -> None:
    done = subprocess.run(
        [sys.executable, "benchmarks/front_page.py", "--check"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
