"""Every command that a page shows is one that the command line takes; workflows and hooks run."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import pytest
import yaml

sys.path.insert(0, str(Path(__file__).parent))
from commands import FENCED, ROOT, commands, parse

GOLDEN = ROOT / "tests" / "golden"
# the ledger-only install that a workflow has
LIGHT = {"PYTHONPATH": str(ROOT / "tests" / "without"), "WITHOUT": "numpy,numba,torch,safetensors"}


def test_every_command_of_the_pages_is_one_that_squeeze_takes() -> None:
    shown = commands()
    assert len(shown) > 60
    wrong = []
    for command in shown:
        try:
            parse(command.arguments)
        except click.ClickException as error:
            wrong.append(f"{command}\n    {error.format_message()}")
    assert not wrong, "\n".join(wrong)


def test_a_command_that_squeeze_does_not_take_is_seen() -> None:
    with pytest.raises(click.ClickException):
        parse(("budget", "model.sqz", "--no-such-option"))


def run(script: str, folder: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run a script of bash in a folder, squeeze being that of this interpreter, and light."""
    path = f"{os.path.dirname(sys.executable)}:{os.environ['PATH']}"
    return subprocess.run(
        ["bash", "-eo", "pipefail", "-c", script],
        cwd=folder,
        env=os.environ | LIGHT | {"PATH": path} | variables,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def work(tmp_path: Path) -> Path:
    """A folder with what the commands of docs/budget.md name."""
    submission = tmp_path / "submission"
    submission.mkdir()
    model, script = (GOLDEN / "v1-default.sqz").read_bytes(), b"print('hello')\n"
    for name, data in {"model.sqz": model, "train_gpt.py": script}.items():
        (submission / name).write_bytes(data)
        (tmp_path / name).write_bytes(data)
    (tmp_path / "old.sqz").write_bytes((GOLDEN / "v1-raw.sqz").read_bytes())
    (tmp_path / "new.sqz").write_bytes(model)
    return tmp_path


def documents() -> list[Any]:
    """The YAML documents of docs/budget.md."""
    page = (ROOT / "docs" / "budget.md").read_text(encoding="utf-8")
    return [yaml.safe_load(text) for kind, text in FENCED.findall(page) if kind == "yaml"]


def action(folder: Path, **inputs: Any) -> subprocess.CompletedProcess[str]:
    """Run the steps of the Action after the installation, as GitHub runs them."""
    steps = yaml.safe_load((ROOT / "action.yml").read_text(encoding="utf-8"))
    values = {name: field["default"] for name, field in steps["inputs"].items()} | inputs
    (step,) = [step for step in steps["runs"]["steps"] if "env" in step]
    variables = {
        name: str(values[text.removeprefix("${{ inputs.").removesuffix(" }}")])
        for name, text in step["env"].items()
    }
    summary = {"GITHUB_STEP_SUMMARY": str(folder / "summary.md"), "GITHUB_SHA": "c0ffee"}
    return run(step["run"], folder, **variables, **summary)


def test_the_action_runs_with_the_inputs_of_the_workflow(work: Path) -> None:
    workflow = documents()[0]
    (used,) = [s for s in workflow["jobs"]["bytes"]["steps"] if "squeeze@" in s.get("uses", "")]
    declared = yaml.safe_load((ROOT / "action.yml").read_text(encoding="utf-8"))["inputs"]
    assert used["with"].keys() <= declared.keys()
    done = action(work, **used["with"])
    assert done.returncode == 0, done.stderr
    assert (work / "bytes.html").exists()
    assert "c0ffee" in (work / "bytes.json").read_text(encoding="utf-8")
    assert "unattributed 0" in (work / "summary.md").read_text(encoding="utf-8")


def test_the_action_fails_over_the_limit_and_still_writes_page_and_summary(work: Path) -> None:
    done = action(work, limit=100)
    assert done.returncode == 3
    assert (work / "bytes.html").exists()
    assert (work / "summary.md").read_text(encoding="utf-8").endswith("```\n")


def test_the_action_takes_paths_on_lines_of_their_own(work: Path) -> None:
    (work / "more").mkdir()
    (work / "more" / "weights").write_bytes(bytes(5000))
    done = action(work, paths="submission/\nmore/weights\n", growth="", base="")
    assert done.returncode == 0, done.stderr
    assert (
        "more/weights" in (work / "summary.md").read_text(encoding="utf-8")
        or "5,000" in done.stdout
    )
    assert action(work, paths="submission/\nmore/weights\n", limit=5000).returncode == 3


def test_the_steps_for_other_services_run(work: Path) -> None:
    install, budget = documents()[1]["steps"]
    address = "https://github.com/OWNER/squeeze"
    assert f'pip install "squeeze-lm @ git+{address}"' == install["run"]
    assert address in (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    done = run(budget["run"], work, COMMIT="c0ffee")
    assert done.returncode == 0, done.stderr
    assert (work / "bytes.html").exists()


def test_the_pre_commit_hook_runs_with_the_arguments_of_the_page(work: Path) -> None:
    (hook,) = yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text(encoding="utf-8"))
    (used,) = documents()[2]["repos"][0]["hooks"]
    assert used["id"] == hook["id"]
    assert not hook["pass_filenames"] and hook["language"] == "python"
    for words, code in ((hook["args"], 0), (used["args"], 0), ([*used["args"][:-1], "9"], 3)):
        done = run(f"{hook['entry']} {' '.join(words)}", work)
        assert done.returncode == code, done.stderr


def test_the_commands_of_the_ledger_page_run(work: Path) -> None:
    page = (ROOT / "docs" / "budget.md").read_text(encoding="utf-8")
    block = next(text for kind, text in FENCED.findall(page) if kind == "sh")
    lines = [
        line
        for line in block.splitlines()
        if not any(needs in line for needs in ("--floors", "--what-if", "--squeezed"))
    ]
    assert len(lines) == 3
    done = run("\n".join(lines), work)
    assert done.returncode == 0, done.stderr
