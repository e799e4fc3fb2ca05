"""Syntax of newer Pythons, bundled by them; and f-strings of the oldest, whichever bundles."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import python_minifier

from squeeze.bundle.emit.minify import minify
from tests.squeeze.bundle.interpreters import OTHERS, version

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


# this one among them: nothing is skipped by a suite that a newer Python runs
NEWER = [
    python
    for python in (sys.executable, *OTHERS)
    if tuple(map(int, version(python).split("."))) >= (3, 12)
]
WHY = "no Python from 3.12 on: set SQUEEZE_PYTHONS=/path/to/python3.12:/path/to/python3.13"


@pytest.mark.skipif(not NEWER, reason=WHY)
@pytest.mark.parametrize("python", NEWER)
def test_newer_syntax_is_bundled_by_the_python_that_reads_it(tmp_path: Path, python: str) -> None:
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


def test_f_strings_are_those_of_the_oldest_python_whichever_bundles() -> None:
    """The same code on every version, with other quotes inside: 3.11 reads no quote twice."""
    source = """print(f"{'a' if 1 else 'b'}{', '.join(['x'])!r:>{4}} {{}}\\n")"""
    assert minify(source) == """print(f"{'a'if 1 else'b'}{', '.join(['x'])!r:>{4}} {{}}\\n")"""


@pytest.mark.skipif(sys.version_info < (3, 12), reason="Python 3.11 reads no such f-string")
def test_f_strings_that_no_older_python_reads_stay_what_they_are() -> None:
    """A backslash inside the braces, and more strings inside each other than there are quotes."""
    for source in (r"""print(f"{'\n'.join('ab')}")""", """print(f'{f"{f'{f"{f'{1}'}"}'}"}')"""):
        assert eval(minify(source)[5:]) == eval(source[5:])
