"""Files that are named twice, and two submissions side by side: every byte once, papers left out."""

from __future__ import annotations

import json
import zlib
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

import squeeze
from squeeze.cli.budget_cmd import command
from squeeze.errors import NoModel, SqueezeError
from tests.squeeze.outside.exports import int8_export

GOLDEN = Path(__file__).parents[2] / "golden" / "v1-default.sqz"
SCRIPT = "print(1)\n"


def run(*arguments: object) -> Result:
    return CliRunner().invoke(command, [*map(str, arguments)])


@pytest.fixture
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder, with two submissions in it whose logs are longer than all else."""
    monkeypatch.chdir(tmp_path)
    for name in ("old", "new"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "model.sqz").write_bytes(GOLDEN.read_bytes())
        (tmp_path / name / "train_gpt.py").write_text(SCRIPT)
        (tmp_path / name / "train.log").write_text("step\n" * 10_000)
    return tmp_path


@pytest.mark.parametrize(
    "paths",
    [
        ["new/train_gpt.py", "new/train_gpt.py"],
        ["new/train_gpt.py", "./new/../new/train_gpt.py"],
        ["{folder}/new/train_gpt.py", "new/train_gpt.py"],
        ["new", "new/train_gpt.py"],
        ["new/model.sqz", "new"],
    ],
)
def test_a_file_that_is_named_twice_counts_once(paths: list[str], folders: Path) -> None:
    ledger = squeeze.budget([path.format(folder=folders) for path in paths])
    assert ledger.unattributed == 0
    whole = squeeze.budget("new")
    assert ledger.total == (whole.total if "new" in paths else len(SCRIPT))
    assert len(ledger.files) == (len(whole.files) if "new" in paths else 1)


def test_an_empty_path_does_not_stand_for_the_working_folder(folders: Path) -> None:
    for paths in ("", ["new", ""]):
        with pytest.raises(SqueezeError, match="an empty path; expected a file or folder"):
            squeeze.budget(paths)


def test_papers_are_left_out_of_the_limit_of_a_difference_and_of_its_growth(folders: Path) -> None:
    room = GOLDEN.stat().st_size + len(SCRIPT)
    assert run("new", "--limit", room).exit_code == 0
    assert run("old", "new", "--limit", room).exit_code == 0
    assert run("old", "new", "--limit", room - 1).exit_code != 0
    (folders / "new" / "train.log").write_text("step\n" * 20_000)
    grown = ["old", "new", "--fail-growth", "0"]
    assert run(*grown).exit_code == 0
    assert json.loads(run("old", "new", "--json").stdout)["delta"] == 50_000
    (folders / "new" / "train_gpt.py").write_text(SCRIPT * 2)
    assert "grew by 9 bytes" in str(run(*grown).exception)


@pytest.mark.parametrize(
    "option", [["--what-if", "mlp=3bit"], ["--squeezed"], ["--base", "b.json"], ["--commit", "a"]]
)
def test_an_option_of_one_ledger_is_not_dropped_where_two_are_compared(
    option: list[str], folders: Path
) -> None:
    result = run("old", "new", *option)
    assert result.exit_code == 2 and "is of one ledger" in result.output


def test_groups_of_a_difference_are_called_estimates_where_they_are(tmp_path: Path) -> None:
    for name, levels in (("old.ptz", 1), ("new.ptz", 9)):
        (tmp_path / name).write_bytes(zlib.compress(int8_export(), levels))
    said = run(tmp_path / "old.ptz", tmp_path / "new.ptz", "--diff").stdout
    assert "only the sums are measured" in said
    assert "measured" not in run(GOLDEN, GOLDEN).stdout


def test_a_model_that_is_gone_is_no_smaller_submission(folders: Path) -> None:
    (folders / "new" / "model.sqz").unlink()
    (folders / "new" / "submission.json").write_text("{}")
    result = run("old", "new")
    assert isinstance(result.exception, NoModel) and "removed" in result.stdout
    assert "new/submission.json: not a score: it states no val_bpb" in result.stderr
    assert run("new", "new").exit_code == 0  # a difference of code alone
