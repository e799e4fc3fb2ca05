"""What is published: a source archive with everything, a wheel, a page that renders elsewhere."""

from __future__ import annotations

import importlib.util
import os
import re
import runpy
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import pytest

from tests.entries import make_entry

ROOT = Path(__file__).parents[2]
MOST = 60_000_000  # bytes of a ledger-only install
SETUP: dict[str, Any] = runpy.run_path(str(ROOT / "setup.py"))


def test_links_of_the_published_readme_are_absolute() -> None:
    repository = "https://example.org/some/where"
    text = SETUP["absolute"]((ROOT / "README.md").read_text(encoding="utf-8"), repository)
    links = re.findall(r"\]\(([^)\s]+)\)", text)
    assert len(links) > 20
    assert all(link.startswith(("https://", "#")) for link in links)
    assert f"![KL and BPB gap against file size, squeeze and record-1394]({repository}/raw/" in text


def test_the_versions_that_readme_calls_tested_are_those_of_the_constraints() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    pinned = dict(
        line.split("==")
        for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
        if "==" in line
    )
    (stated,) = re.findall(r"Tested versions: .*?the\s+rest", readme, re.DOTALL)
    assert re.findall(r"(torch|numpy|numba) ([\d.]+\d)", stated) == [
        (name, pinned[name]) for name in ("torch", "numpy", "numba")
    ]


def test_the_address_of_the_repository_stands_in_one_place() -> None:
    urls = SETUP["PROJECT"]["urls"]
    assert all(url.startswith(urls["Repository"]) for url in urls.values())


def copied_sources(folder: Path) -> Path:
    """Return a new folder with the files of the repository, so that a build leaves nothing in it."""
    folder.mkdir()
    tracked = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard", "-z"],
        cwd=ROOT,
        capture_output=True,
        check=True,
    ).stdout
    tar = subprocess.run(
        ["tar", "c", "--null", "-T", "-"], cwd=ROOT, input=tracked, capture_output=True, check=True
    )
    subprocess.run(["tar", "x", "-C", folder], input=tar.stdout, check=True)
    return folder


@pytest.mark.slow
def test_the_distribution_holds_everything_and_its_page_renders(tmp_path: Path) -> None:
    if importlib.util.find_spec("twine") is None:
        pytest.skip("twine is not installed")
    source = copied_sources(tmp_path / "source")
    subprocess.run([sys.executable, "-m", "build", "-o", tmp_path / "dist", source], check=True)
    built = sorted((tmp_path / "dist").iterdir())
    subprocess.run([sys.executable, "-m", "twine", "check", "--strict", *built], check=True)
    (archive,) = [path for path in built if path.suffix == ".gz"]
    with tarfile.open(archive) as tar_file:
        names = {name.partition("/")[2] for name in tar_file.getnames()}
    assert {
        "CHANGELOG.md", "Makefile", "constraints.txt", "docs/tutorial.md", "docs/pack.png",
        "tests/golden/v1-raw.sqz", "tests/docs/test_distribution.py", "squeeze/views/report.html",
    } <= names  # fmt: skip


def interpreter(version: str) -> str:
    """Return a Python of this version: from SQUEEZE_PYTHONS (paths, by colons), else from PATH."""
    for path in os.environ.get("SQUEEZE_PYTHONS", "").split(os.pathsep):
        if path and f"Python {version}." in subprocess.check_output([path, "--version"], text=True):
            return path
    found_python = shutil.which(f"python{version}")
    # pyenv puts names on PATH whose versions are not chosen: they end with an error
    if (
        found_python is None
        or subprocess.run([found_python, "--version"], capture_output=True).returncode
    ):
        pytest.skip(f"no python{version} runs; SQUEEZE_PYTHONS names interpreters, by colons")
    return found_python


@pytest.mark.slow
@pytest.mark.parametrize("version", ["3.11", "3.12", "3.13"])
def test_the_ledger_alone_installs_and_runs(version: str, tmp_path: Path) -> None:
    """In an empty environment: ≤ 60 MB with its dependencies, pip aside, and three commands."""
    home = tmp_path / "environment"
    subprocess.run([interpreter(version), "-m", "venv", home], check=True)
    python = home / "bin" / "python"
    before = size_of(home)
    source = copied_sources(tmp_path / "source")
    pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, source], check=True)
    assert size_of(home) - before <= MOST, f"{size_of(home) - before:,} bytes"
    entry = make_entry(tmp_path / "entry")
    artifact = ROOT / "tests" / "golden" / "v1-default.sqz"
    for words, said in {
        ("budget", artifact, "--html", tmp_path / "page.html"): "unattributed 0",
        ("inspect", artifact): "1,200 parameters",
        ("review", entry): "nothing was run",
    }.items():
        done = subprocess.run(
            [home / "bin" / "squeeze", *map(str, words)],
            cwd=tmp_path,
            capture_output=True,
            text=True,
        )
        assert said in done.stdout, f"{words}\n{done.stdout}{done.stderr}"
        assert not re.search(r"Warning|Traceback", done.stderr), done.stderr


def size_of(folder: Path) -> int:
    """Return the bytes of the files in a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
