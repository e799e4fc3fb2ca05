"""Files that a script reaches count as its code, however it reaches them; others do not."""

from __future__ import annotations

import time

import pytest

from squeeze.review.review import review
from tests.entries import Log, make_entry


def counted(folder):
    """Return bytes of code that the review counts."""
    return next(row for row in review(folder).findings if row.id == "bytes").data["code"]


@pytest.mark.parametrize(
    "files",
    [
        {"train_gpt.py": 'import importlib\nimportlib.import_module("inner")', "inner.py": "x = 1"},
        {"train_gpt.py": 'inner = __import__("inner")', "inner.py": "x = 1"},
        {"train_gpt.py": 'import runpy\nrunpy.run_module("pack.inner")', "pack/inner.py": "x = 1"},
        {"train_gpt.py": "import pack", "pack/__init__.py": "x = 1"},
        {"train_gpt.py": "import pack.inner", "pack/__init__.py": "x", "pack/inner.py": "y"},
        {"train_gpt.py": "from pack import inner", "pack/inner.py": "x = 1"},
        {"train_gpt.py": "import pack.a", "pack/a.py": "from . import b", "pack/b.py": "x = 1"},
        {"train_gpt.py": "import pack.a", "pack/a.py": "from .b import x", "pack/b.py": "x = 1"},
        {"train_gpt.py": 'open("a/w.dat"), open("b/w.dat")', "a/w.dat": "1", "b/w.dat": "22"},
        {"train_gpt.py": 'glob("parts/*.dat")', "parts/a.dat": "1", "parts/b.dat": "22"},
        {"train_gpt.py": 'exec(open("NOTES.md").read())', "NOTES.md": "x = 1"},
        {"train_gpt.py": 'exec(open("NOTES.md", mode="r").read())', "NOTES.md": "x = 1"},
        {"train_gpt.py": 'Path("run/table.csv").read_bytes()', "run/table.csv": "x = 1"},
        {"train_gpt.py": 'np.fromfile("figure.png", "u1")', "figure.png": "x = 1"},
    ],
)
def test_code_and_data_that_a_script_reaches_are_counted(tmp_path, files):
    folder = make_entry(tmp_path / "nine", files=files)
    assert counted(folder) == sum(map(len, files.values()))


@pytest.mark.parametrize(
    "script",
    [
        'open("run.md", "w").write("done")',
        'Path("run.md").open(mode="a")',
        'print("see run.md")',
        "from torch import inner",
        "import torch.inner.functional",
        'print("2 * 3 *", "*.*")',
        '"""Reads inner.py and pack/__init__.py."""',
    ],
)
def test_what_a_script_only_writes_or_speaks_of_is_not_counted(tmp_path, script):
    files = {"train_gpt.py": script, "run.md": "x", "inner.py": "x", "pack/__init__.py": "x"}
    assert counted(make_entry(tmp_path / "nine", files=files)) == len(script)


def test_the_script_is_the_one_that_the_stated_run_counted(tmp_path):
    large = "import os\n" * 2000
    logs = {"train.log": Log(model=15_990_000, code=len(large)), "old.log": Log(bpb=1.5)}
    folder = make_entry(tmp_path / "nine", logs, {"train_deep.py": large})
    row = next(row for row in review(folder).findings if row.id == "bytes")
    assert row.status == "flagged" and "train_deep.py" in row.text


def test_a_script_that_runs_the_counted_one_is_the_script(tmp_path):
    files = {"train_gpt.py": 'exec(open("inner.py").read())', "inner.py": "x = 1\n" * 99}
    folder = make_entry(tmp_path / "nine", {"train.log": Log(code=594)}, files)
    assert counted(folder) == sum(map(len, files.values()))


def test_many_words_and_many_files_take_little_time(tmp_path):
    script = "".join(f'x = "a{i}*b{i} c{i}.dat"\n' for i in range(5000))
    folder = make_entry(tmp_path / "nine", files={"train_gpt.py": script})
    for number in range(2000):
        (folder / f"{number}.dat").touch()
    began = time.process_time()
    review(folder)
    assert time.process_time() - began < 5
