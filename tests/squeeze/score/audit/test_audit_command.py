"""`squeeze audit` from the command line, and the example of docs/protocol.md."""

from __future__ import annotations

import json
import os
import re
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from squeeze.cli import cli
from squeeze.errors import SqueezeError
from squeeze.score.audit.rules import RULES
from squeeze.score.audit.submission import load_submission
from squeeze.score.serving import protocol
from tests.zoo.animals import HONEST, Habitat, build, make_habitat
from tests.zoo.offenders import OFFENDERS

ROOT = Path(__file__).parents[4]


@pytest.fixture(scope="module")
def habitat(tmp_path_factory: pytest.TempPathFactory) -> Habitat:
    return make_habitat(tmp_path_factory.mktemp("habitat"))


def run(habitat: Habitat, submission: Path, *arguments: str) -> Result:
    known = ["--tokenizer", str(habitat.tokenizer), "--val", str(habitat.data), "--tokens", "300"]
    return CliRunner().invoke(cli, ["audit", str(submission), *known, *arguments])


def test_an_honest_submission_exits_with_0_and_every_rule_in_three_reports(
    habitat: Habitat, tmp_path: Path
) -> None:
    submission, page = build(HONEST[0], habitat, tmp_path / "s"), tmp_path / "audit.md"
    result = run(habitat, submission, "--json", "--markdown", str(page))
    assert result.exit_code == 0, result.output
    facts = json.loads(result.stdout)
    assert facts["failed"] == []
    assert [rule["id"] for rule in facts["rules"]] == [rule.id for rule in RULES]
    assert all(rule["evidence"] and rule["source"] for rule in facts["rules"])
    assert facts["targets"] == 300
    assert facts["hello"]["window"] == 64
    table = [line for line in page.read_text().splitlines() if line.startswith("| ")]
    assert len(table) == len(RULES) + 1
    assert sum("✅ pass" in line for line in table) == len(RULES) - 1  # no training shards given


def test_a_failing_rule_exits_with_1_and_is_shown(habitat: Habitat, tmp_path: Path) -> None:
    (animal,) = (a for a in OFFENDERS if a.name == "clamped targets")
    page = tmp_path / "audit.md"
    result = run(habitat, build(animal, habitat, tmp_path / "s"), "--markdown", str(page))
    assert result.exit_code == 1
    assert re.search(r"^score +fail +\d+ of 300 reported losses", result.stdout, re.M)
    assert "❌ fail | Stated score" in page.read_text()


def test_nothing_to_run_is_one_clear_error(habitat: Habitat, tmp_path: Path) -> None:
    result = run(habitat, tmp_path)
    assert isinstance(result.exception, SqueezeError)
    assert "nothing to run" in str(result.exception)


@pytest.mark.parametrize(
    ("paper", "message"),
    [("[1, 2", "a JSON object"), ('{"scorer": "python x.py"}', "scorer"), ("{}", "nothing to run")],
)
def test_bad_papers_are_one_clear_error(
    habitat: Habitat, tmp_path: Path, paper: str, message: str
) -> None:
    (tmp_path / "submission.json").write_text(paper)
    result = run(habitat, tmp_path)
    assert isinstance(result.exception, SqueezeError)
    assert message in str(result.exception)


def test_a_stride_where_none_is_possible_is_one_clear_error(
    habitat: Habitat, tmp_path: Path
) -> None:
    result = run(habitat, tmp_path, "--mode", "window", "--stride", "8")
    assert isinstance(result.exception, SqueezeError)
    assert "no stride" in str(result.exception)


def test_links_that_lead_nowhere_are_told_and_ship_nothing(tmp_path: Path) -> None:
    (tmp_path / "train_gpt.py").write_text("pass")
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "broken").symlink_to("nothing")
    (tmp_path / "up").symlink_to("..")
    (tmp_path / "fine").symlink_to("train_gpt.py")
    found = load_submission(tmp_path)
    assert found.links == ("broken", "loop", "up")
    assert found.files == {"fine": 4, "train_gpt.py": 4}


def test_a_pipe_in_the_folder_is_one_clear_error(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "train_gpt.py")
    with pytest.raises(SqueezeError, match="neither a file nor a folder"):
        load_submission(tmp_path)


def test_too_many_files_are_one_clear_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("squeeze.score.audit.submission.MAX_FILES", 3)
    for i in range(4):
        (tmp_path / f"{i}.py").write_text("")
    with pytest.raises(SqueezeError, match="too large for a submission"):
        load_submission(tmp_path)


def test_the_example_of_the_protocol_page_passes(habitat: Habitat, tmp_path: Path) -> None:
    page = (ROOT / "docs" / "protocol.md").read_text()
    examples = re.findall(r"```python\n(.*?)```", page, re.S)
    (example,) = (code for code in examples if "serve(Scorer())" in code)
    code = example.replace("VOCAB, WINDOW = 1024,", "VOCAB, WINDOW = 384,")
    assert code != example
    (tmp_path / "score.py").write_text(code)
    (tmp_path / "submission.json").write_text('{"scorer": ["python", "score.py"]}')
    shutil.copy(protocol.__file__, tmp_path / "protocol.py")
    result = run(habitat, tmp_path, "--json")
    assert result.exit_code == 0, result.output
    statuses = {rule["id"]: rule["status"] for rule in json.loads(result.stdout)["rules"]}
    unstated = {"overlap", "clock", "seeds"}
    assert {name for name, status in statuses.items() if status != "pass"} == unstated


def test_the_rules_page_names_every_rule() -> None:
    page = (ROOT / "docs" / "rules.md").read_text().split("## The rules\n")[1].split("\n## ")[0]
    assert re.findall(r"^\| `([\w-]+)` \|", page, re.M) == [rule.id for rule in RULES]
    for rule in RULES:
        (row,) = (line for line in page.splitlines() if line.startswith(f"| `{rule.id}` |"))
        for number in re.findall(r"#\d+", rule.source):
            assert number in row, rule.id
