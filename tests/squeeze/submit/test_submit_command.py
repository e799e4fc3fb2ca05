"""`squeeze submit` on the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from squeeze.cli import cli
from squeeze.errors import OverBudget


def run(inputs: Path, *arguments: str | Path) -> Result:
    known = ["--tokenizer", inputs / "t.model", "--val", inputs / "d.bin"]
    return CliRunner().invoke(cli, ["submit", *map(str, [*arguments, *known])])


def test_the_command_writes_and_checks(inputs: Path, tmp_path: Path) -> None:
    target = tmp_path / "s"
    about = ["--name", "Bread", "--author", "A. Baker", "--github-id", "abaker"]
    code = ["--script", inputs / "code.py", "--file", inputs / "protocol.py"]
    runs = ["--run", "python train_gpt.py --eval", "--run", "python train_gpt.py --serve"]
    result = run(inputs, inputs / "m.sqz", "-o", target, *about, *code, *runs)
    assert result.exit_code == 0, result.output
    assert "in a fresh process" in result.stdout and f"wrote {target}" in result.stdout
    result = run(inputs, "--check", target, "--json")
    assert result.exit_code == 0, result.output
    facts = json.loads(result.stdout)
    assert facts["submission"]["name"] == "Bread"
    assert [r["command"][2] for r in facts["checked"]["runs"]] == ["--eval", "--serve"]
    assert facts["checked"]["runs"][0]["bpb"] == pytest.approx(facts["checked"]["bpb"], abs=1e-6)
    result = run(inputs, "--check", target, "--limit", "1000")
    assert isinstance(result.exception, OverBudget)


def test_the_command_says_what_it_lacks(inputs: Path, tmp_path: Path) -> None:
    result = run(inputs, inputs / "m.sqz", "-o", tmp_path / "s")
    assert result.exit_code == 2 and "--name, --author" in result.output
    assert run(inputs).exit_code == 2
    assert run(inputs, inputs / "m.sqz", "--check", tmp_path).exit_code == 2
