"""Programs made at random print, before and after bundling, the same.

`python -m tests.squeeze.bundle.test_bundle_random 20000` tries as many.
"""

from __future__ import annotations

import contextlib
import io
import sys
import tempfile
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest import mock

import pytest

from squeeze.bundle.build import BundleOptions, bundle
from squeeze.bundle.specialise import ShrinkOptions
from tests.squeeze.bundle.random_programs import Program

OPTIONS = {
    "plain": BundleOptions(forms=("plain",)),
    "specialised": BundleOptions(forms=("plain",), shrink=ShrinkOptions(specialise=True)),
    "as it is": BundleOptions(forms=("plain",), minified=False),
}
FEW, MANY = 60, 20_000


def output(path: Path) -> str:
    """Return what a program prints when this process runs it as a script, and what it raises."""
    module: Any = ModuleType("__main__")
    module.__file__ = str(path)
    printed = io.StringIO()
    with mock.patch.dict(sys.modules, {"__main__": module}), contextlib.redirect_stdout(printed):
        try:
            exec(compile(path.read_text(), str(path), "exec", dont_inherit=True), module.__dict__)
        except BaseException as error:
            print(type(error).__name__)
    return printed.getvalue()


def difference(seed: int, folder: Path) -> str:
    """Return the program of a seed, its bundle and both outputs if these differ, "" if not."""
    entry, alone = folder / "main.py", folder / "alone.py"
    source = Program(seed).source()
    try:
        compile(source, "main.py", "exec", dont_inherit=True)
    except SyntaxError:
        return ""
    entry.write_text(source)
    names = list(OPTIONS)
    name = names[seed % len(names)]
    made = bundle(entry, options=OPTIONS[name])
    alone.write_bytes(made.shipped.data)
    before, after = output(entry), output(alone)
    if before == after:
        return ""
    return f"seed {seed}, {name}\n{source}\n---\n{made.minified}\n---\n{before}\n---\n{after}"


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("part", range(3))
def test_random_programs_print_the_same(tmp_path: Path, part: int) -> None:
    for seed in range(part, FEW, 3):
        assert difference(seed, tmp_path) == ""


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_many_random_programs_print_the_same(tmp_path: Path) -> None:
    for seed in range(FEW, FEW + MANY):
        assert difference(seed, tmp_path) == ""


def main() -> None:
    """Try as many programs as asked for, and print those that differ."""
    count, first = int(sys.argv[1]), int((sys.argv[2:] or ["0"])[0])
    differing = 0
    with tempfile.TemporaryDirectory() as name:
        for seed in range(first, first + count):
            text = difference(seed, Path(name))
            if text:
                differing += 1
                print(text, "\n=====", flush=True)
            if (seed + 1) % 500 == 0:
                print(f"{seed + 1 - first} programs, {differing} differ", flush=True)


if __name__ == "__main__":
    main()
