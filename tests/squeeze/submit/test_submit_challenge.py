"""`squeeze submit --check` of folders as entrants of the challenge hand them in."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from squeeze.cli.submit_cmd import command, is_ours
from squeeze.errors import SqueezeError
from tests.entries import Log, make_entry


def run(*arguments: object):
    return CliRunner().invoke(command, list(map(str, arguments)))


def test_a_folder_of_an_entrant_is_checked_by_the_papers_of_the_challenge(tmp_path: Path) -> None:
    assert run("--check", make_entry(tmp_path / "nine")).exit_code == 0
    bare = make_entry(tmp_path / "bare", github_id=None)
    done = run("--check", bare, "--json")
    assert done.exit_code == 1 and json.loads(done.output)["flagged"] == ["papers"]
    over = make_entry(
        tmp_path / "over", {"train.log": Log(model=16_000_000)}, bytes_total=16_000_069
    )
    assert run("--check", over).exit_code == 1
    assert run("--check", over, "--limit", 17_000_000).exit_code == 0


@pytest.mark.parametrize("name", ["model.sqz", "SHA256SUMS"])
def test_a_folder_of_ours_that_lacks_papers_is_none_of_the_challenge(
    tmp_path: Path, name: str
) -> None:
    folder = make_entry(tmp_path / "nine")
    assert not is_ours(folder)
    (folder / name).write_text("")
    assert is_ours(folder)
    done = run("--check", folder)
    assert done.exit_code == 2 and "--tokenizer" in done.output


def test_what_is_no_folder_is_said_to_be_none(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    for name in ("nothing", "file"):
        error = run("--check", tmp_path / name).exception
        assert isinstance(error, SqueezeError) and "expected a submission folder" in str(error)


def test_the_papers_of_squeeze_are_told_by_their_field(tmp_path: Path) -> None:
    assert is_ours(make_entry(tmp_path / "nine", squeeze="0.1.0"))


def test_checking_a_folder_of_the_challenge_loads_no_torch(tmp_path: Path) -> None:
    folder = make_entry(tmp_path / "nine")
    program = (
        "import sys; from squeeze.cli import cli;"
        f"cli.main(['submit', '--check', {str(folder)!r}], standalone_mode=False);"
        "assert not {'torch', 'numba', 'numpy'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True, capture_output=True)
