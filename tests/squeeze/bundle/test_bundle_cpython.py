"""CPython's own tests of modules of the standard library, run on bundles of them.

A module is bundled as one file that keeps every name, and stands in a library of links in place of the
original: its tests pass and fail as they do with the original. Off a machine that has CPython's tests,
nothing is run.
"""

from __future__ import annotations

import ast
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from squeeze.bundle.build import BundleOptions, bundle
from squeeze.bundle.specialise import ShrinkOptions

MODULES = (
    "abc argparse ast base64 bdb bisect calendar cmd code codeop colorsys configparser "
    "contextlib copy copyreg csv difflib fileinput filecmp fnmatch fractions ftplib functools "
    "genericpath getopt gettext glob graphlib heapq hmac imaplib ipaddress keyword linecache "
    "mailcap mimetypes netrc ntpath numbers operator optparse pickletools pipes plistlib poplib "
    "posixpath pprint quopri queue random reprlib rlcompleter sched secrets shelve shlex sndhdr "
    "statistics string stringprep tabnanny telnetlib textwrap timeit tokenize types uu "
    "weakref xdrlib zipapp"
).split()
TESTS = {"code": "test_code_module", "numbers": "test_abstract_numbers"}
OPTIONS = {"plain": ShrinkOptions(), "specialised": ShrinkOptions(specialise=True)}
TIMEOUT = 240  # seconds
# Modules whose tests cannot say the same of a bundle, by reason.
EXCLUDED = {
    "contextlib": "its tests compare lines of the source in a traceback",
    "difflib": "it imports itself: a second copy, in which a bundle would have to name things alike",
    "linecache": "its tests read its file, which ends with a line feed; that of a bundle does not",
}
# A title, with the first line of the test's docstring below it if there is one.
LINE = re.compile(r"^(\w+ \([\w.]+\)(?:\n.*)?|\w+ \(.*?\).*?) \.\.\. (\w+)", re.MULTILINE)
LIBRARY = Path(sysconfig.get_paths()["stdlib"])

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(importlib.util.find_spec("test.support") is None, reason="no CPython tests"),
]


def every_name(source: str) -> tuple[str, ...]:
    """Return all names by which something outside may reach what a module holds."""
    names = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Name):
            names.add(node.id)
        elif isinstance(node, ast.arg):
            names.add(node.arg)
        elif isinstance(node, ast.Attribute):
            names.add(node.attr)
        elif isinstance(node, ast.alias):
            names.add((node.asname or node.name).partition(".")[0])
    return tuple(sorted(names))


def results(module: str, source: bytes, folder: Path) -> dict[str, str]:
    """Return what CPython's tests of a module say, each by its title.

    The module has this source in a library that is otherwise this Python's own, made in a new folder.
    """
    library = folder / LIBRARY.relative_to(LIBRARY.parent.parent)
    library.mkdir(parents=True)
    for part in LIBRARY.iterdir():
        if part.name != f"{module}.py":
            (library / part.name).symlink_to(part)
    (library / f"{module}.py").write_bytes(source)
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1", "PYTHONHOME": str(folder)}
    test = f"test.{TESTS.get(module, f'test_{module}')}"
    done = subprocess.run(
        [os.path.realpath(sys.executable), "-m", "unittest", "-v", test],
        capture_output=True,
        text=True,
        env=environment,
        timeout=TIMEOUT,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    titles = dict(LINE.findall(done.stderr))
    return {**titles, "exit code": str(done.returncode)}


def bundled(module: str, folder: Path, shrink: ShrinkOptions) -> bytes:
    """Return the bundle of a module, of a copy that lies in this folder without its neighbours."""
    path = folder / f"{module}.py"
    shutil.copyfile(LIBRARY / path.name, path)
    options = BundleOptions(every_name(path.read_text()), forms=("plain",), shrink=shrink)
    return bundle(path, options=options).shipped.data


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("module", [name for name in MODULES if name not in EXCLUDED])
def test_tests_of_a_module_say_of_its_bundle_what_they_say_of_it(
    tmp_path: Path, module: str, options: str
) -> None:
    if not (LIBRARY / f"{module}.py").exists():
        pytest.skip("not in the library of this Python")
    before = results(module, (LIBRARY / f"{module}.py").read_bytes(), tmp_path / "before")
    data = bundled(module, tmp_path, OPTIONS[options])
    assert len(before) > 1 and not any("_FailedTest" in title for title in before)
    assert results(module, data, tmp_path / "after") == before
