"""README and docs/ as a stranger meets them: every block run in order, none slow to answer or to warn.

Whole pages take minutes and are marked slow; that no block is left out is a fast test.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from commands import ROOT
from rooms import AFTER, BEFORE, CLAIMED, CODES, FILES, PYTHON, furnish
from stranger import (
    OWN,
    SECONDS,
    SHORTER,
    Block,
    Ran,
    blocks,
    commands_in,
    hidden_commands,
    quiet_first,
    run,
    shorter,
)

BLOCKS = blocks()
RUN = ("sh", "console")
PAGES = list(dict.fromkeys(b.page for b in BLOCKS if b.kind in RUN or b.name in BEFORE))
# README's ways to install: the test below that clones, and what CI runs
MAKE = re.compile(r"make (demo|test)\b|pip install")


def test_every_block_is_run_here_or_claimed_by_a_test() -> None:
    for block in BLOCKS:
        if block.kind in RUN:
            assert block.page in FILES, f"{block.name}: no row in tests/docs/rooms.py"
        elif block.kind not in ("", "text"):
            by = CLAIMED.get(f"{block.page} {block.kind}")
            assert by or block.name in BEFORE or block.name in READ, (
                f"{block.name}: no test runs it"
            )
            if by:
                assert Path(block.page).name in (ROOT / by).read_text(encoding="utf-8"), by


def test_no_command_hides_in_a_block_that_nobody_runs() -> None:
    assert list(hidden_commands()) == []


def test_every_row_of_the_tables_stands_for_something() -> None:
    text = "".join(block.text for block in BLOCKS)
    names = {block.name for block in BLOCKS} | {block.page for block in BLOCKS}
    assert {*FILES, *BEFORE, *AFTER, *READ} <= names
    assert not [words for words in (*SHORTER, *CODES, *PYTHON) if words not in text]
    kinds = {f"{block.page} {block.kind}" for block in BLOCKS}
    assert set(CLAIMED) <= kinds


def read_settings(block: Block, folder: Path) -> None:
    """The project's file counts, as `squeeze config` shows it."""
    (folder / "squeeze.toml").write_text(block.text)
    shown = run("squeeze config --json", folder)
    assert shown.code == 0 and not shown.frowns, shown.printed
    for value in (tomllib.loads(block.text)["limit"], "fineweb_train_*.bin", "train_gpt.py:GPT"):
        assert str(value) in shown.printed


def read_papers(block: Block, folder: Path) -> None:
    """The papers of a submission, which the audit's reader takes."""
    from squeeze.score.audit.submission import load_submission

    (folder / "train_gpt.py").write_text("")
    (folder / "submission.json").write_text(block.text)
    submission = load_submission(folder)
    stated = json.loads(block.text)
    assert submission.claims == stated and not submission.stated.faults
    python, *arguments = stated.get("scorer", ("python", "train_gpt.py", "--serve"))
    assert python == "python" and submission.command == (sys.executable, *arguments)


READ = {
    "docs/settings.md toml 1": read_settings,
    "docs/protocol.md json 1": read_papers,
    "docs/protocol.md json 2": read_papers,
}


@pytest.mark.parametrize("name", READ)
def test_a_file_of_the_pages_is_read(name: str, tmp_path: Path) -> None:
    (block,) = (block for block in BLOCKS if block.name == name)
    READ[name](block, tmp_path)


@pytest.fixture(scope="session")
def stock(materials: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files that the pages name."""
    from stock import make_stock

    return make_stock(tmp_path_factory.mktemp("stock"), materials)


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES)
def test_a_page_runs_as_it_stands(page: str, stock: Path, tmp_path: Path) -> None:
    faults: list[str] = []
    of_page = [block for block in BLOCKS if block.page == page]
    for number, block in enumerate(of_page):
        furnish(block, tmp_path, stock, whole_page=number == 0)
        if block.kind in RUN:
            for shown in commands_in(block):
                if not MAKE.match(shown.command):
                    before = shutil.copytree(tmp_path, tmp_path.parent / "before", symlinks=True)
                    ran = run(shorter(shown.command), tmp_path)
                    faults += faults_of(ran, shown.command, shown.output, before)
                    shutil.rmtree(before)
        elif block.name in BEFORE:
            faults += run_python(block, tmp_path)
    assert not faults, "\n\n".join(faults)


def faults_of(ran: Ran, command: str, output: str, before: Path) -> list[str]:
    """Return what a stranger would frown at. before: a copy of the folder as the command found it."""
    faults = []
    code = next((code for words, code in CODES.items() if command.startswith(words)), 0)
    if ran.code != code:
        faults.append(f"exit code {ran.code} instead of {code}\n{ran.printed}")
    faults += ran.frowns
    printed = singular(ran.printed)
    for phrase in re.split(r"[\d,.]*\d[\d,.]*|…", singular(output)):
        if phrase.strip() not in printed:
            faults.append(f"the page says {phrase.strip()!r}; printed was\n{ran.printed}")
    if OWN.search(ran.command) and ran.first > SECONDS:
        first = quiet_first(ran.command, before)
        if first > SECONDS:
            faults.append(f"nothing for {first:.2f} s")
    return [f"{ran.command}\n{fault}" for fault in faults]


def singular(text: str) -> str:
    """Return a text on one line, words without an s at their end: numbers differ, so plurals may."""
    return re.sub(r"s\b", "", " ".join(text.split()))


def run_python(block: Block, folder: Path) -> list[str]:
    """Run a block of Python in a folder, between the lines that tests/docs/rooms.py gives it."""
    text = block.text
    for words, other in PYTHON.items():
        text = text.replace(words, other)
    program = "\n".join([BEFORE[block.name], text, AFTER.get(block.name, "")])
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parent)},
        capture_output=True,
        text=True,
        check=False,
    )
    return [] if done.returncode == 0 else [f"{block.name}\n{done.stderr}"]


@pytest.mark.slow
def test_a_clean_clone_demonstrates_itself_in_an_empty_environment(tmp_path: Path) -> None:
    """`make test` is what CI runs; here its parts are built from nothing, and the demo is shortened."""
    clone = tmp_path / "clone"
    subprocess.run(["git", "clone", "--quiet", ROOT, clone], check=True)
    cold = {name: value for name, value in os.environ.items() if not name.startswith("VIRTUAL_ENV")}
    done = subprocess.run(
        ["make", "demo", "DEMO_SECONDS=5"],
        cwd=clone,
        env=cold,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr and "Warning" not in done.stderr, done.stderr
    binaries = clone / ".venv" / "bin"
    assert (binaries / "squeeze").exists()
    collected = subprocess.run(
        [binaries / "python", "-m", "pytest", "--collect-only", "-q", "-m", "not slow"],
        cwd=clone,
        capture_output=True,
        text=True,
        check=False,
    )
    assert collected.returncode == 0, collected.stdout[-3000:]
    shutil.rmtree(clone)  # with its environment nearly 2 GB
