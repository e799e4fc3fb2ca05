"""A folder is replaced as a whole or not at all, also by a run that is killed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from squeeze.errors import SqueezeError
from squeeze.submit import folder as folders
from tests.squeeze.submit.bread import refused, write


def test_an_existing_folder_is_replaced_only_by_force(copy: Path, inputs: Path) -> None:
    (copy / "README.md").write_text("old")
    with refused("exists", SqueezeError):
        write(inputs, copy)
    assert (copy / "README.md").read_text() == "old"
    write(inputs, copy, force=True)
    assert (copy / "README.md").read_text() != "old"
    assert [p.name for p in copy.parent.iterdir()] == ["copy"]


def test_what_is_no_submission_is_never_replaced(inputs: Path, tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "letters").write_text("dear")
    (tmp_path / "file").write_text("x")
    (tmp_path / "link").symlink_to("home")
    for name, message in {"home": "no submission", "file": "a file", "link": "a symbolic"}.items():
        with refused(message, SqueezeError):
            write(inputs, tmp_path / name, force=True)
    assert (tmp_path / "home" / "letters").read_text() == "dear"


def test_replacing_in_two_steps_is_completed_by_the_next_run(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Where the kernel cannot exchange folders."""
    target = tmp_path / "s"

    def fill(text: str, force: bool = False) -> None:
        with folders.built_folder(target, force) as folder:
            (folder / "submission.json").write_text(text)

    fill("1")
    monkeypatch.setattr(folders, "_exchange", folders._in_two_steps)
    fill("2", force=True)
    assert (target / "submission.json").read_text() == "2"
    assert [p.name for p in tmp_path.iterdir()] == ["s"]
    os.rename(target, tmp_path / ".s.replaced")  # killed between the two steps
    with refused("exists", SqueezeError):
        fill("3")
    assert (target / "submission.json").read_text() == "2"


KILLED = """
import os, signal, sys
from pathlib import Path
from squeeze.submit import folder
moment = sys.argv[2]
def die(*unused):
    os.kill(os.getpid(), signal.SIGKILL)
if moment == "sync":
    folder._sync = die
if moment == "before":
    folder._exchange = die
with folder.built_folder(Path(sys.argv[1]), True) as place:
    (place / "submission.json").write_text("new")
    if moment == "inside":
        die()
    if moment == "after":
        real = folder._exchange
        folder._exchange = lambda a, b: (real(a, b), die())
"""


@pytest.mark.parametrize(
    ("moment", "left"), [("inside", "old"), ("sync", "old"), ("before", "old"), ("after", "new")]
)
def test_a_killed_run_leaves_the_old_folder_or_the_new_one(
    moment: str, left: str, tmp_path: Path
) -> None:
    target = tmp_path / "s"
    target.mkdir()
    (target / "submission.json").write_text("old")
    done = subprocess.run([sys.executable, "-c", KILLED, str(target), moment])
    assert done.returncode == -9
    assert (target / "submission.json").read_text() == left
    assert len(list(tmp_path.iterdir())) == 2  # and what it was building
    with folders.built_folder(target, True) as place:
        (place / "submission.json").write_text("next")
    assert [p.name for p in tmp_path.iterdir()] == ["s"]
    assert (target / "submission.json").read_text() == "next"


def test_a_folder_that_another_run_is_building_is_left_alone(tmp_path: Path) -> None:
    target = tmp_path / "s"
    with folders.built_folder(target) as first:
        (first / "submission.json").write_text("first")
        with refused("exists", SqueezeError), folders.built_folder(target) as second:
            (second / "submission.json").write_text("second")
            os.rename(first, tmp_path / "elsewhere")
            os.rename(tmp_path / "elsewhere", first)
            (tmp_path / "s").mkdir()
        assert first.is_dir()
        (tmp_path / "s").rmdir()
    assert (target / "submission.json").read_text() == "first"
