"""Folders and papers with something odd: each is one clear error."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from squeeze.errors import OverBudget, SqueezeError
from squeeze.submit.check import Inputs, check_papers, check_submission
from squeeze.submit.plain import read_plain, safe_name
from tests.squeeze.submit.bread import edit, refused, rehash, write


def test_links_devices_and_pipes_are_refused_as_parts(inputs: Path, tmp_path: Path) -> None:
    (tmp_path / "link.sqz").symlink_to(inputs / "m.sqz")
    os.mkfifo(tmp_path / "pipe.sqz")
    (tmp_path / "folder.sqz").mkdir()
    for name, what in {"link": "a symbolic link", "pipe": "a pipe", "folder": "a folder"}.items():
        with refused(what):
            write(inputs, tmp_path / "s", model=tmp_path / f"{name}.sqz")
    with refused("a device"):
        write(inputs, tmp_path / "s", files=[Path("/dev/null")])
    with refused("No such file"):
        write(inputs, tmp_path / "s", logs=[tmp_path / "nothing.log"])
    assert not (tmp_path / "s").exists()


@pytest.mark.parametrize(
    "name", ["..", ".hidden", "a/b", "/etc/passwd", "-rf", "", "a\nb", "ü.py", "x" * 200, "a\\b"]
)
def test_names_that_escape_are_refused(name: str) -> None:
    with refused("a name that must not be"):
        safe_name(name)


def test_two_parts_of_one_name_are_refused(inputs: Path, tmp_path: Path) -> None:
    for name in ("model.sqz", "Protocol.py", "submission.json"):
        (tmp_path / name).write_text("x")
        with refused("two files of one name"):
            write(inputs, tmp_path / "s", files=[inputs / "protocol.py", tmp_path / name])


def test_a_file_larger_than_can_be_is_not_read(tmp_path: Path) -> None:
    with (tmp_path / "big").open("wb") as file:
        file.truncate(1 << 40)
    with refused("too large"):
        read_plain(tmp_path / "big")


ODD: dict[str, tuple[Callable[[Path], object], str]] = {
    "a link": (lambda f: (f / "x.py").symlink_to("train_gpt.py"), "a symbolic link"),
    "a link out": (lambda f: (f / "x.py").symlink_to("/etc/passwd"), "a symbolic link"),
    "a folder": (lambda f: (f / "more").mkdir(), "a folder"),
    "a pipe": (lambda f: os.mkfifo(f / "x.py"), "a pipe"),
    "a hidden file": (lambda f: (f / ".x").write_text(""), "a name that must not be"),
    "a file nobody lists": (lambda f: (f / "x.py").write_text(""), "files"),
    "a file that is gone": (lambda f: (f / "train_gpt.py").unlink(), "no train_gpt.py"),
    "another model": (lambda f: (f / "model.sqz").write_bytes(b"SQZ1"), "is not the file"),
    "another page": (lambda f: (f / "README.md").write_text(""), "SHA256SUMS is not"),
    "other requirements": (lambda f: (f / "requirements.txt").write_text(""), "is not the file"),
}


@pytest.mark.parametrize("name", ODD)
def test_a_folder_with_something_odd_is_one_clear_error(name: str, copy: Path) -> None:
    change, message = ODD[name]
    change(copy)
    with refused(message):
        check_papers(copy)


CLAIMS: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "a field missing": (lambda c: c.pop("author"), "author"),
    "an empty name": (lambda c: c.update(name=" "), "name is empty"),
    "no authors": (lambda c: c.update(authors=[]), "authors is empty"),
    "a score of text": (lambda c: c.update(val_bpb="1.0"), "val_bpb"),
    "a score below zero": (lambda c: c.update(val_bpb=-1), "val_bpb"),
    "a score that is no seed's": (lambda c: c.update(val_bpb=1.0), "val_bpb is not that of"),
    "a score true": (lambda c: c.update(val_bpb=True), "val_bpb"),
    "a date that is none": (lambda c: c.update(date="yesterday"), "date"),
    "a limit of nothing": (lambda c: c.update(limit=0), "limit"),
    "fewer bytes": (lambda c: c.update(bytes_total=5), "bytes_total"),
    "a seed twice": (lambda c: c.update(seeds=2 * c["seeds"]), "a seed twice"),
    "a seed without its number": (lambda c: c["seeds"][0].pop("seed"), "seeds"),
    "no seeds": (lambda c: c.update(seeds=[]), "no seed"),
    "a path in files": (
        lambda c: c["files"].update({"../x": {"bytes": 1, "sha256": "0" * 64}}), "must not be in",
    ),
    "an absolute path": (lambda c: c["versions"].update(python="/home/me/py"), "path of a machine"),
    "an absolute key": (lambda c: c["versions"].update({"/home/me": "1"}), "path of a machine"),
    "a command elsewhere": (lambda c: c.update(scorer=["/bin/sh", "x"]), "program"),
    "a script elsewhere": (lambda c: c.update(scorer=["python", "/x.py"]), "must not be in"),
    "a command of numbers": (lambda c: c.update(scorer=["python", 1]), "scorer"),
    "no command": (lambda c: (c.pop("scorer"), c.pop("evaluate")), "no command"),
    "a mode that is none": (lambda c: c["score"].update(mode="best"), "mode"),
    "another configuration": (lambda c: c["config"]["model"].update(num_layers=2), "config"),
    "another hash of the model": (lambda c: c["sha256"].update(model="0" * 64), "sha256 of model"),
}  # fmt: skip


@pytest.mark.parametrize("name", CLAIMS)
def test_papers_that_lie_are_one_clear_error(name: str, copy: Path) -> None:
    change, message = CLAIMS[name]
    edit(copy, change)
    with refused(message):
        check_papers(copy)


def test_nan_in_the_papers_is_one_clear_error(copy: Path) -> None:
    path = copy / "submission.json"
    score = json.loads(path.read_text())["val_bpb"]
    path.write_text(path.read_text().replace(str(score), "NaN"))
    rehash(copy)
    with refused("a number that is none"):
        check_papers(copy)


def test_other_data_or_tokenizer_is_one_clear_error(written: Path, inputs: Path) -> None:
    with refused("not the tokenizer"):
        check_submission(written, Inputs(inputs / "d.bin", [inputs / "d.bin"]))
    with refused("not the data"):
        check_submission(written, Inputs(inputs / "t.model", [inputs / "t.model"]))


def test_over_the_limit_says_by_how_much_and_leaves_nothing(inputs: Path, tmp_path: Path) -> None:
    with pytest.raises(OverBudget, match=r"over the limit by [\d,]+ bytes") as error:
        write(inputs, tmp_path / "s", limit=1000)
    assert error.value.exit_code == 3
    assert "squeeze pack --limit 1000" in str(error.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"script": None}, "nothing says how it was trained"),
        ({"script": Path("nowhere.py")}, "nowhere.py"),
        ({"limit": 9}, "over the limit"),
    ],
)
def test_all_that_is_known_is_refused_before_the_model_is_scored(
    inputs: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    changes: dict[str, Any],
    message: str,
) -> None:
    def score(*_: object, **__: object) -> None:
        raise AssertionError("hours of scoring")

    monkeypatch.setattr("squeeze.submit.scores.evaluate", score)
    with pytest.raises(SqueezeError, match=message):
        write(inputs, tmp_path / "s", **changes)
