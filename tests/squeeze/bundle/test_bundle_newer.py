"""Syntax of newer Pythons, bundled by them: type parameters, f-strings inside f-strings."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import python_minifier

from tests.squeeze.bundle.interpreters import OTHERS, WHY

ROOT = Path(__file__).parents[3]
COMPARE = """
import sys
from pathlib import Path
from squeeze.bundle.build import BundleOptions, bundle
from squeeze.bundle.specialise import ShrinkOptions
from squeeze.bundle.verify import Check, verify
entry = Path(sys.argv[1])
for specialise in (False, True):
    made = bundle(entry, options=BundleOptions(shrink=ShrinkOptions(specialise=specialise)))
    verdict = verify({entry.name: entry}, entry.name, made.shipped.data, Check())
    print(verdict.exit_code, *verdict.differences)
"""


@pytest.mark.skipif(not OTHERS, reason=WHY)
@pytest.mark.parametrize("python", OTHERS)
def test_newer_syntax_is_bundled_by_the_python_that_reads_it(tmp_path: Path, python: str) -> None:
    if sys.version_info >= (3, 12):
        pytest.skip("this Python reads it as well")
    source = (Path(__file__).parent / "programs" / "newer.txt").read_text().partition("\n")[2]
    entry = tmp_path / "main.py"
    entry.write_text(source)
    (tmp_path / "lib").mkdir()
    # of our packages only the minifier: the others are built for this Python
    (tmp_path / "lib" / "python_minifier").symlink_to(Path(python_minifier.__file__).parent)
    path = os.pathsep.join([str(ROOT), str(tmp_path / "lib")])
    done = subprocess.run(
        [python, "-B", "-c", COMPARE, entry],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": path},
        check=False,
    )
    assert done.stdout.splitlines() == ["0", "0"], done.stdout + done.stderr
