"""The folder that `squeeze submit` writes: its files, its score, its papers."""

from __future__ import annotations

import json
import math
import subprocess
from pathlib import Path

import pytest

from squeeze.files import sha256
from squeeze.ledger.attribute import attribute_paths
from squeeze.score.audit import audit, load_data
from squeeze.submit.check import check_submission
from tests.squeeze.submit.bread import inputs_of, score, write


def test_the_folder_holds_code_model_papers_and_hashes_of_all(written: Path, inputs: Path) -> None:
    assert sorted(p.name for p in written.iterdir()) == [
        "README.md", "SHA256SUMS", "model.sqz", "protocol.py", "requirements.txt",
        "submission.json", "train.log", "train_gpt.py",
    ]  # fmt: skip
    assert (written / "model.sqz").read_bytes() == (inputs / "m.sqz").read_bytes()
    done = subprocess.run(["sha256sum", "-c", "SHA256SUMS"], cwd=written, capture_output=True)
    assert done.returncode == 0, done.stdout
    assert written.stat().st_mode & 0o777 == 0o755


def test_the_stated_score_is_that_of_squeeze_eval_and_of_the_script(
    written: Path, inputs: Path
) -> None:
    claims = json.loads((written / "submission.json").read_text())
    report = score(inputs)
    uniform = report["tokens"] * math.log2(300) / report["bytes"]
    assert claims["val_bpb"] == report["bpb"] == pytest.approx(uniform, abs=1e-6)
    done = check_submission(written, inputs_of(inputs))
    assert [run.command[2] for run in done.runs] == ["--eval", "--serve"]
    assert all(abs(run.bpb - report["bpb"]) <= 1e-6 for run in done.runs)


def test_the_stated_bytes_are_those_on_disk(written: Path) -> None:
    claims = json.loads((written / "submission.json").read_text())
    ships = ["train_gpt.py", "model.sqz", "protocol.py", "requirements.txt"]
    assert claims["bytes_total"] == sum((written / name).stat().st_size for name in ships)
    assert claims["totals"]["rule"] == sum((written / name).stat().st_size for name in ships[:2])
    assert attribute_paths([written]).unattributed == 0
    assert f"| total | {claims['bytes_total']:,} |" in (written / "README.md").read_text()


def test_the_audit_finds_nothing_in_it(written: Path, inputs: Path) -> None:
    found = audit(written, load_data([inputs / "d.bin"], inputs / "t.model", 200))
    assert found.failures == []
    passed = {name for name, verdict in found.verdicts.items() if verdict.status == "pass"}
    assert {"runs", "score", "size", "files", "coverage", "bytes"} <= passed


def test_requirements_pin_what_the_script_imports(written: Path) -> None:
    lines = (written / "requirements.txt").read_text().splitlines()
    assert [line.split("==")[0] for line in lines] == ["numpy", "sentencepiece"]
    assert all(line.split("==")[1] for line in lines)


def test_the_same_inputs_give_the_same_bytes(
    inputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("squeeze.score.provenance.code_sha256", lambda: "0" * 64)
    for name in ("one", "two"):
        write(inputs, tmp_path / name, evaluate=None)
    for path in (tmp_path / "one").iterdir():
        assert path.read_bytes() == (tmp_path / "two" / path.name).read_bytes(), path.name


def test_the_page_shows_three_totals_people_and_hashes(written: Path) -> None:
    page = (written / "README.md").read_text()
    assert page.startswith("# Bread\n")
    for text in ("| shipped |", "| rule |", "| virtual |", "A. Baker, B. Miller (abaker)",
                 "Assistance: none.", sha256((written / "model.sqz").read_bytes())):  # fmt: skip
        assert text in page


def test_no_path_of_this_machine_is_in_the_papers(written: Path, inputs: Path) -> None:
    for name in ("README.md", "submission.json"):
        assert str(inputs) not in (written / name).read_text()
