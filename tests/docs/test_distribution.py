"""What is published: a source archive with everything, a wheel, a page that renders elsewhere."""

from __future__ import annotations

import importlib.util
import re
import runpy
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
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


@pytest.mark.slow
def test_the_distribution_holds_everything_and_its_page_renders(tmp_path: Path) -> None:
    if importlib.util.find_spec("twine") is None:
        pytest.skip("twine is not installed")
    source = tmp_path / "source"
    source.mkdir()
    tracked = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard", "-z"],
        cwd=ROOT,
        capture_output=True,
        check=True,
    ).stdout
    tar = subprocess.run(
        ["tar", "c", "--null", "-T", "-"], cwd=ROOT, input=tracked, capture_output=True, check=True
    )
    subprocess.run(["tar", "x", "-C", source], input=tar.stdout, check=True)
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
