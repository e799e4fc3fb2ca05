"""Files that a script reaches count as its code, however it reaches them; others do not."""

from __future__ import annotations

import time

import pytest

from squeeze.review.review import review
from tests.entries import Log, make_entry


def bytes_of(folder):
    """Return the review's finding on the bytes."""
    return next(row for row in review(folder).findings if row.id == "bytes")


def counted(folder):
    """Return bytes of code that the review counts."""
    return bytes_of(folder).data["code"]


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


PUT_TOGETHER = {
    "an f-string": 'STEM = "weights"\nopen(f"{STEM}.dat")',
    "an f-string with a number": "open(f\"weights.{'d'}a{'t':s}\")",
    "a sum": 'STEM = "wei"\ndata = STEM + "ghts" + ".dat"',
    "a percent sign": 'NAME = "weights"\ndata = "%s.%s" % (NAME, "dat")',
    "a percent sign before a name": 'NAME = "weights"\ndata = "%s.dat" % NAME',
    "a format": '"{}.{end}".format("weights", end="dat")',
    "a joined path": 'import os\nNAME = "weights"\nos.path.join(here, NAME + ".dat")',
    "pathlib": 'NAME = "weights.py"\nPath(__file__).parent / Path(NAME).with_suffix(".dat")',
    "the script's name": 'SUFFIX = ".dat"\nPath(__file__).with_name(f"weights{SUFFIX}")',
    "joined texts": 'open(".".join(["weights", "dat"]))',
    "a default": 'def load(stem="weights"):\n    return open(f"{stem}.dat")',
    "a local name": 'def load():\n    stem = "weights"\n    return open(stem + ".dat")',
    "a field": 'class Settings:\n    stem: str = "weights"\ns = Settings()\nopen(f"{s.stem}.dat")',
    "names of a class": 'class Settings:\n    stem = "weights"\n    path = stem + ".dat"',
    "a variable of the environment": 'import os\nopen(os.environ.get("STEM", "weights") + ".dat")',
    "a loop": 'for stem in ("other", "weights"):\n    open(f"{stem}.dat")',
    "a table": 'FILES = {"a": "weights", "b": "other"}\nopen(FILES[which] + ".dat")',
    "a choice": 'open(("weights" if big else "small") + ".dat")',
}


@pytest.mark.parametrize("script", PUT_TOGETHER.values(), ids=PUT_TOGETHER)
def test_names_put_together_from_constants_are_followed(tmp_path, script):
    files = {"train_gpt.py": script, "weights.dat": "x" * 1000, "unused.cfg": "x"}
    row = bytes_of(make_entry(tmp_path / "nine", files=files))
    assert row.data["code"] == len(script) + 1000
    assert "unused.cfg" not in row.text


def test_numbered_parts_and_papers_read_by_a_name_are_counted(tmp_path):
    script = (
        'N = 3\nfor i in range(N):\n    open(f"part_{i:02d}.dat")\n'
        'NOTES = "NOTES" + ".md"\nwith open(NOTES) as file:\n    exec(file.read())\n'
    )
    files = {"train_gpt.py": script, "part_03.dat": "x", "NOTES.md": "x" * 100}
    files |= {f"part_{i:02d}.dat": "x" * 10 for i in range(3)}
    assert counted(make_entry(tmp_path / "nine", files=files)) == len(script) + 130


DOUBTFUL = {
    "a parameter": 'def load(stem):\n    return open(f"{stem}_part.dat")',
    "an argument of the program": 'import sys\nopen(sys.argv[1] + "_part.dat")',
    "a folder": 'open(os.path.join(root(), f"{rank()}_part.dat"))',
    "a number": 'open(f"{step:04d}_part.dat")',
}


@pytest.mark.parametrize("script", DOUBTFUL.values(), ids=DOUBTFUL)
def test_names_that_only_the_run_tells_are_said_where_they_may_count(tmp_path, script):
    files = {"train_gpt.py": script, "a_part.dat": "x" * 1000, "other.dat": "x"}
    row = bytes_of(make_entry(tmp_path / "nine", files=files))
    assert row.status == "agrees" and row.data["code"] == len(script)
    assert "not counted, but may be meant" in row.text and "a_part.dat (1,000)" in row.text
    assert "other.dat" not in row.text
    del files["a_part.dat"]
    assert "meant" not in bytes_of(make_entry(tmp_path / "ten", files=files)).text


@pytest.mark.parametrize(
    "script",
    [
        'torch.save(model, f"{step}_part.dat")',
        'open(f"{step}_part.dat", "wb")',
        'name = "part"\nname = name + name\n' * 40 + "open(name)",
        'open("{0:>99999999}.dat".format("x")), open("%*d.dat" % (10**9, 1)), open("%99999999d" % 1)',
        'for i in range(10**15):\n    open(f"{i}_{i}.bat")',
        'x = open(f"run_{step}")',
    ],
)
def test_names_that_are_written_or_make_no_file_are_not_doubtful(tmp_path, script):
    files = {"train_gpt.py": script, "a_part.dat": "x", "run_all.sh": "x"}
    row = bytes_of(make_entry(tmp_path / "nine", files=files))
    assert row.data["code"] == len(script) and "meant" not in row.text


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
    script = "".join(f'x = "a{i}*b{i} c{i}.dat"\nopen(f"{{x}}{i}")\n' for i in range(5000))
    folder = make_entry(tmp_path / "nine", files={"train_gpt.py": script})
    for number in range(2000):
        (folder / f"{number}.dat").touch()
    began = time.process_time()
    review(folder)
    assert time.process_time() - began < 5
