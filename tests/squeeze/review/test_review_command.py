"""`squeeze review` and `squeeze budget` of folders that hold no model."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from click.testing import CliRunner

import squeeze
from squeeze.bundle.emit.payload import payloads
from squeeze.bundle.emit.wrap import wrap
from squeeze.cli.budget_cmd import command as budget
from squeeze.cli.review_cmd import command as review
from squeeze.errors import NoModel
from squeeze.ledger.submission import is_paper
from tests.entries import Log, make_entry


def run(command, *arguments):
    return CliRunner().invoke(command, [str(argument) for argument in arguments])


def test_a_review_exits_with_1_when_something_is_flagged(tmp_path):
    assert run(review, make_entry(tmp_path / "good")).exit_code == 0
    over = make_entry(
        tmp_path / "over", {"train.log": Log(model=16_000_001)}, bytes_total=16_100_000
    )
    done = run(review, over, "--markdown", tmp_path / "review.md")
    assert done.exit_code == 1 and "16,000,001 (train.log)" in done.output
    assert "| flagged |" in (tmp_path / "review.md").read_text()
    facts = json.loads(run(review, over, "--json").output)
    assert facts["flagged"] == ["bytes", "stated-bytes"]


def test_a_script_that_is_an_archive_is_python_all_the_same(tmp_path):
    folder = make_entry(tmp_path / "nine")
    for source, flagged in ((b"print(1)\n" * 200, False), (b"print(1\n" * 200, True)):
        data = wrap(next(payloads(source, ("zlib",))), "archive").data
        (folder / "train_gpt.py").write_bytes(data)
        done = run(review, folder)
        assert ("does not parse as Python" in done.output) is flagged, done.output


@pytest.mark.parametrize(
    "flags", [(), ("--json",), ("--html", "page.html"), ("--fail-over", "9999999")]
)
def test_a_budget_without_a_model_says_that_nothing_can_be_said(tmp_path, monkeypatch, flags):
    monkeypatch.chdir(tmp_path)
    folder = make_entry(tmp_path / "nine", files={"vocab.model": "pieces", "setup.sh": "true"})
    done = run(budget, folder, *flags)
    assert isinstance(done.exception, NoModel) and NoModel.exit_code == 4
    assert "no model here; nothing can be said of the limit" in str(done.exception)
    assert "under the limit" not in done.output
    assert 'unused": null' in done.output if flags == ("--json",) else "unused" not in done.output


def test_the_api_says_so_when_a_limit_is_given(tmp_path):
    folder = make_entry(tmp_path / "nine")
    assert not squeeze.budget(folder).has_model
    with pytest.raises(NoModel):
        squeeze.budget(folder, limit=16_000_000)


@pytest.mark.parametrize("name", ["model.bin", "weights.npz", "final_model.int6.ptz", "blob"])
def test_a_binary_file_may_be_a_model(tmp_path, name):
    folder = make_entry(tmp_path / "nine")
    (folder / name).write_bytes(bytes(range(256)) * 8)
    assert run(budget, folder).exit_code == 0


def test_a_budget_of_files_is_held_against_the_limit_as_before(tmp_path):
    script = make_entry(tmp_path / "nine") / "train_gpt.py"
    assert "unused" in run(budget, script).output
    done = run(budget, script.parent, "--fail-over", 10)
    assert done.exception.exit_code == 3


@pytest.mark.parametrize("folder", ["nine", "n" * 120, "2026-04-01_" + "Nine_Loaves_" * 9])
def test_bytes_are_shown_however_long_a_name_is(tmp_path, folder):
    files = {"helper_with_a_name.py": "#" * 12_345, "setup.sh": "#" * 23_456}
    output = run(budget, make_entry(tmp_path / folder, files=files), "--depth", 3).output
    line = next(line for line in output.splitlines() if "setup.sh" in line)
    assert "23,456" in line and max(map(len, output.splitlines())) <= 100


def test_logs_in_txt_are_papers_and_files_that_ship_are_not():
    papers = [
        "train_v3.txt",
        "run/logs/s42.txt",
        "log_10mins_seed-7.txt",
        "x/train_seed_1.txt",
        "a.out",
    ]
    ships = [
        "requirements.txt",
        "vocab.txt",
        "merges.txt",
        "x/notes.txt",
        "logs.py",
        "train_weights.txt",
    ]
    assert all(map(is_paper, papers)) and not any(map(is_paper, ships))


def test_neither_torch_nor_numba_is_loaded(tmp_path):
    folder = make_entry(tmp_path / "nine")
    program = (
        "import sys; from squeeze.cli import cli;"
        f"cli.main(['review', {str(folder)!r}], standalone_mode=False);"
        "assert not {'torch', 'numba', 'sentencepiece'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True, capture_output=True)
