"""CPython's own tests of modules of the standard library, run on bundles of them.

A module is bundled as one file that keeps every name, and stands in for the original: its tests pass
and fail as they do with the original. Off a machine that has CPython's tests, nothing is run.
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
    "abc argparse ast base64 bdb bisect calendar chunk cmd code codeop colorsys configparser "
    "contextlib copy copyreg csv difflib fileinput filecmp fnmatch fractions ftplib functools "
    "genericpath getopt gettext glob graphlib heapq hmac imaplib ipaddress keyword linecache "
    "mailcap mimetypes netrc ntpath numbers operator optparse pickletools pipes plistlib poplib "
    "posixpath pprint quopri queue random reprlib rlcompleter sched secrets shelve shlex sndhdr "
    "statistics string stringprep tabnanny telnetlib textwrap timeit token tokenize types uu "
    "weakref xdrlib zipapp"
).split()
TESTS = {"stringprep": "test_stringprep", "code": "test_code_module", "shlex": "test_shlex"}
OPTIONS = {"plain": ShrinkOptions(), "specialised": ShrinkOptions(specialise=True)}
TIMEOUT = 240  # seconds
# Modules whose tests see that the module is another file, by reason.
EXCLUDED = {
    "ast": "finds the library beside the module",
    "contextlib": "compares lines of the source in a traceback",
    "difflib": "imports itself, which a bundle beside its source takes for another module",
}
LINE = re.compile(r"^(\S+ \(.*?\).*?) \.\.\. (\w+)", re.MULTILINE)

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


def results(module: str, folder: Path | None) -> dict[str, str]:
    """Return what CPython's tests of a module say, each by its title; folder: of the bundle."""
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    if folder is not None:
        environment["PYTHONPATH"] = str(folder)
    test = f"test.{TESTS.get(module, f'test_{module}')}"
    done = subprocess.run(
        [sys.executable, "-m", "unittest", "-v", test],
        capture_output=True,
        text=True,
        env=environment,
        timeout=TIMEOUT,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    titles = dict(LINE.findall(done.stderr))
    return {**titles, "exit code": str(done.returncode)}


def bundled(module: str, folder: Path, shrink: ShrinkOptions) -> None:
    """Write the bundle of a module under its name."""
    source = Path(sysconfig.get_paths()["stdlib"]) / f"{module}.py"
    path = folder / "alone" / source.name
    path.parent.mkdir()
    shutil.copyfile(source, path)
    options = BundleOptions(every_name(path.read_text()), forms=("plain",), shrink=shrink)
    (folder / f"{module}.py").write_bytes(bundle(path, options=options).shipped.data)


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("module", [name for name in MODULES if name not in EXCLUDED])
def test_tests_of_a_module_say_of_its_bundle_what_they_say_of_it(
    tmp_path: Path, module: str, options: str
) -> None:
    if not (Path(sysconfig.get_paths()["stdlib"]) / f"{module}.py").exists():
        pytest.skip("not in the library of this Python")
    before = results(module, None)
    bundled(module, tmp_path, OPTIONS[options])
    assert len(before) > 1 and results(module, tmp_path) == before
