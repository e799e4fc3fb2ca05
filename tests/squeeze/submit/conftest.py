"""Fixtures of the tests of submissions."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.squeeze.submit.bread import make_inputs, write


@pytest.fixture(scope="session")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Parts that a submission is made of; not to be changed."""
    return make_inputs(tmp_path_factory.mktemp("bread"))


@pytest.fixture(scope="session")
def written(inputs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A submission that passed; not to be changed."""
    target = tmp_path_factory.mktemp("written") / "submission"
    write(inputs, target)
    return target


@pytest.fixture
def copy(written: Path, tmp_path: Path) -> Path:
    """A copy of that submission, for changes."""
    return Path(shutil.copytree(written, tmp_path / "copy"))
