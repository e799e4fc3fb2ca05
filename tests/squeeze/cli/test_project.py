"""Settings of a project: squeeze.toml, variables, and what a model was packed for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result

from squeeze.cli import cli
from squeeze.cli.parsing.values import shard_paths
from squeeze.files import sha256
from squeeze.ledger.asked import Asked, write_asked

GOLDEN = Path(__file__).parents[2] / "golden" / "v1-default.sqz"


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder below one with a settings file; commands run there."""
    below = tmp_path / "project" / "runs" / "today"
    below.mkdir(parents=True)
    monkeypatch.chdir(below)
    return tmp_path / "project"


def invoke(*arguments: object, **variables: str) -> Result:
    return CliRunner(env=variables).invoke(cli, [*map(str, arguments)])


def settings(**variables: str) -> dict[str, dict[str, dict[str, Any]]]:
    """What `squeeze config --json` prints."""
    result = invoke("config", "--json", **variables)
    assert result.exit_code == 0, result.output
    facts: dict[str, dict[str, dict[str, Any]]] = json.loads(result.output)["settings"]
    return facts


def test_a_limit_above_the_working_directory_counts(project: Path) -> None:
    (project / "squeeze.toml").write_text("limit = 100\n")
    result = invoke("budget", GOLDEN)
    assert type(result.exception).__name__ == "OverBudget"
    assert invoke("budget", GOLDEN, "--limit", 2000).exit_code == 0


def test_a_variable_comes_before_the_file_and_an_option_before_both(project: Path) -> None:
    (project / "squeeze.toml").write_text("limit = 100\n[budget]\nlimit = 100\n")
    assert invoke("budget", GOLDEN, SQUEEZE_LIMIT="2000").exit_code == 0
    assert invoke("budget", GOLDEN, SQUEEZE_BUDGET_LIMIT="2000").exit_code == 0
    assert invoke("budget", GOLDEN, "--limit", 2000, SQUEEZE_LIMIT="100").exit_code == 0


def test_paths_are_from_the_folder_of_the_file(project: Path) -> None:
    (project / "squeeze.toml").write_text(
        'tokenizer = "my.model"\nval = ["a.bin", "b.bin"]\nmodel = "gpt.py:GPT"\n'
        '[pack]\npreset = "best"\n[train]\npreset = "baseline"\nout = "m.safetensors"\n'
    )
    shown = settings()
    assert shown["eval"]["tokenizer"]["value"] == str(project / "my.model")
    assert shown["eval"]["data"]["value"] == [str(project / "a.bin"), str(project / "b.bin")]
    assert shown["pack"]["script"]["value"] == str(project / "gpt.py:GPT")
    assert shown["pack"]["preset"]["value"] == "best"
    assert shown["train"]["out"]["value"] == str(project / "m.safetensors")
    assert shown["pack"]["preset"]["source"] == f"{project / 'squeeze.toml'} [pack]"


def test_config_names_the_variable_that_counts(project: Path) -> None:
    shown = settings(SQUEEZE_LIMIT="5", SQUEEZE_PACK_PRESET="fast")
    assert shown["budget"]["limit"] == {"value": "5", "source": "SQUEEZE_LIMIT"}
    assert shown["pack"]["preset"] == {"value": "fast", "source": "SQUEEZE_PACK_PRESET"}
    assert "no squeeze.toml" in invoke("config").output


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("limt = 5", "Did you mean limit?"),
        ("[pak]\npreset = 'best'", "Did you mean [pack]?"),
        ("[pack]\npreest = 'best'", "Did you mean preset?"),
        ("limit = ", "not TOML"),
        ("limit = 'many'", "not a whole number"),
        ("limit = 1000.5", "'1000.5' is not a whole number: digits, no unit (from"),
        ("limit = true", "'True' is not a whole number: digits, no unit (from"),
        ("limit = [1, 2]", "--limit takes one value"),
        ("[pack]\nquant = [['a']]", "--quant takes values or a list of them"),
        ("[budget]\nby = 'rolle'", "Did you mean role?"),
    ],
)
def test_a_setting_that_no_command_has_is_refused(project: Path, text: str, said: str) -> None:
    (project / "squeeze.toml").write_text(text)
    name = "pack" if "pack" in text else "budget"
    for arguments in ((name, GOLDEN), ("config",)):
        result = invoke(*arguments)
        assert result.exit_code == 2
        assert said in result.output


def test_an_error_names_the_variable_that_a_value_is_from(project: Path) -> None:
    for variable in ("SQUEEZE_LIMIT", "SQUEEZE_BUDGET_LIMIT"):
        for arguments in (("budget", GOLDEN), ("config",)):
            result = invoke(*arguments, **{variable: "1e6"})
            assert result.exit_code == 2 and f"(from {variable})" in result.output
    result = invoke("budget", GOLDEN, "--limit", "1e6", SQUEEZE_LIMIT="5")
    assert result.exit_code == 2 and "(from" not in result.output


def test_config_shows_options_as_they_are_written(project: Path) -> None:
    (project / "squeeze.toml").write_text('val = "a.bin"\n[train]\nset = ["seed=1"]\n')
    said = invoke("config", SQUEEZE_PACK_CODE="a.py:b.py").output
    assert "eval --val" in said and "train --set " in said and "pack --code" in said
    assert "a.py, b.py" in said and "--data" not in said


def test_config_notes_a_misspelt_variable(project: Path) -> None:
    result = invoke("config", SQUEEZE_LIMITT="5", SQUEEZE_MATERIALS="x")
    assert "SQUEEZE_LIMITT counts for nothing. Did you mean SQUEEZE_LIMIT?" in result.output
    assert "MATERIALS" not in result.output


def test_an_artifact_is_held_to_the_limit_it_was_packed_for(tmp_path: Path) -> None:
    model = tmp_path / "model.sqz"
    model.write_bytes(GOLDEN.read_bytes())
    (tmp_path / "model.sqz.cache").mkdir()
    write_asked(model, Asked(sha256(model.read_bytes()), 1000, None))
    result = invoke("budget", model)
    assert "--limit 1,000" in result.stderr
    assert type(result.exception).__name__ == "OverBudget"
    assert invoke("budget", model, "--limit", 2000).exit_code == 0
    model.write_bytes((GOLDEN.parent / "v1-raw.sqz").read_bytes())
    assert invoke("budget", model).exit_code == 0  # the record is of other bytes


def test_a_submission_takes_tokenizer_and_limit_of_the_pack(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, tokenizer = tmp_path / "model.sqz", tmp_path / "my.model"
    model.write_bytes(GOLDEN.read_bytes())
    tokenizer.write_bytes(b"")
    (tmp_path / "model.sqz.cache").mkdir()
    write_asked(model, Asked(sha256(model.read_bytes()), 1000, str(tokenizer)))
    seen: list[Any] = []
    monkeypatch.setattr("squeeze.cli.runs.submit.run", seen.append)
    monkeypatch.setattr("squeeze.cli.runs.audit.run", seen.append)
    assert invoke("submit", model, "--val", "v.bin").exit_code == 0
    assert invoke("audit", model, "--val", "v.bin").exit_code == 0
    assert [(r.limit, r.tokenizer) for r in seen] == [(1000, tokenizer)] * 2
    tokenizer.unlink()
    result = invoke("audit", model, "--val", "v.bin")
    assert result.exit_code == 2 and "--tokenizer" in result.output


@pytest.mark.parametrize(
    ("command", "near"),
    [
        ("pack m --preset bets", "best"),
        ("train --data d -o o --preset tny", "tiny"),
        ("bundle --preset record-1439", "record-1493"),
        ("eval m --tokenizer t --val v --mode slding", "sliding"),
        ("budget m --by rolle", "role"),
        ("budgt m", "budget"),
    ],
)
def test_a_misspelt_word_exits_with_2_and_names_the_nearest(command: str, near: str) -> None:
    result = invoke(*command.split())
    assert result.exit_code == 2
    assert f"Did you mean {near}?" in result.output


def test_shards_may_be_named_by_a_pattern_wherever_they_are_taken(tmp_path: Path) -> None:
    for name in ("val_1.bin", "val_0.bin"):
        (tmp_path / name).write_bytes(b"")
    pattern = str(tmp_path / "val_*.bin")
    named = tmp_path / "a[1].bin"
    named.write_bytes(b"")
    assert shard_paths([named]) == (named,)
    taken = [tmp_path / "val_0.bin", tmp_path / "val_1.bin"]
    options = []
    for name in ("train", "pack", "calibrate", "eval", "audit", "prove", "submit"):
        command = cli.get_command(click.Context(cli), name)
        assert command is not None
        for parameter in command.params:
            if parameter.type.name == "shards":
                options.append((name, parameter.opts[0]))
                context = click.Context(command)
                value = parameter.process_value(context, [pattern])
                assert list(value) == taken, (name, parameter.opts)
    assert len(options) >= 8
