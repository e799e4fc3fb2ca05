"""A ledger-only install: which commands run without numpy, numba and torch, and what the others say."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
GOLDEN = ROOT / "tests" / "golden" / "v1-default.sqz"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
NAME = re.compile(r"[A-Za-z0-9_.-]+")
# a distribution and the package it brings, where the names differ
FULL = {NAME.match(need)[0] for need in PROJECT["optional-dependencies"]["full"]}  # type: ignore[index]


def light(
    *arguments: object, hidden: set[str] = FULL | {"llvmlite", "matplotlib"}
) -> subprocess.CompletedProcess[str]:
    """Run squeeze in a process that cannot import the packages of the extra `full`."""
    where = {"PYTHONPATH": str(ROOT / "tests" / "without"), "WITHOUT": ",".join(hidden)}
    return subprocess.run(
        [sys.executable, "-m", "squeeze", *map(str, arguments)],
        env=os.environ | where,
        capture_output=True,
        text=True,
        check=False,
    )


def test_budget_and_its_page_need_no_numpy(tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    done = light("budget", GOLDEN, "--html", page)
    assert done.returncode == 0, done.stderr
    assert "unattributed 0" in done.stdout
    assert "the page has no histograms: " in done.stderr
    assert "Traceback" not in done.stderr
    assert page.stat().st_size > 10_000


def test_the_page_needs_no_numba_where_numpy_is_installed(tmp_path: Path) -> None:
    done = light("budget", GOLDEN, "--html", tmp_path / "page.html", hidden={"numba", "torch"})
    assert done.returncode == 0, done.stderr
    assert "no histograms: numba is not installed" in done.stderr


def test_exports_of_others_have_the_same_rows_without_numpy(tmp_path: Path) -> None:
    import brotli
    import torch

    shuffled = tmp_path / "model.ptz"
    torch.save({"w": torch.arange(4096.0).reshape(64, 64)}, tmp_path / "plain.pt")
    data = (tmp_path / "plain.pt").read_bytes()
    planes = b"".join(data[at::4] for at in range(4))
    shuffled.write_bytes(brotli.compress(b"BSHF\x04" + planes))
    bare = light("budget", shuffled, "--json")
    assert bare.returncode == 0, bare.stderr
    assert json.loads(bare.stdout) == json.loads(
        light("budget", shuffled, "--json", hidden=set()).stdout
    )
    assert {row["kind"] for row in json.loads(bare.stdout)["rows"]} > {"raw.fp32", "pickle"}


@pytest.mark.parametrize("verbose", [(), ("-v",)], ids=["roles", "tensors"])
def test_inspect_shows_what_a_header_says(verbose: tuple[str, ...], tmp_path: Path) -> None:
    import torch

    path = tmp_path / "model.pt"
    torch.save({"blocks.0.mlp.fc.weight": torch.zeros(64, 8)}, path)
    done, whole = light("inspect", path, *verbose), light("inspect", path, hidden=set())
    assert done.returncode == whole.returncode == 0, done.stderr + whole.stderr
    assert done.stdout.splitlines()[:2] == whole.stdout.splitlines()[:2]
    assert done.stdout.splitlines()[-1].split() == (
        ["blocks.0.mlp.fc.weight", "64×8", "fp32"] if verbose else ["each", "tensor:", "-v"]
    )
    assert "numpy is not installed" in done.stderr


def test_inspect_reads_the_header_of_an_artifact() -> None:
    done = light("inspect", GOLDEN, "--json")
    facts = json.loads(done.stdout)
    assert (facts["format"], facts["parameters"]) == ("sqz", 1200)
    assert {tensor["storage"] for tensor in facts["tensors"]} >= {"fp32", "uniform"}


def test_a_submission_is_reviewed(tmp_path: Path) -> None:
    (tmp_path / "train_gpt.py").write_text("print('val_bpb: 1.2')\n")
    for command in (("review",), ("submit", "--check")):
        done = light(*command, tmp_path)
        assert "nothing was run" in done.stdout, done.stderr


@pytest.mark.parametrize(
    "command",
    [
        "pack GOLDEN -o out.sqz",
        "eval GOLDEN --tokenizer t --val d",
        "budget GOLDEN --floors",
        "train --data d -o m.safetensors",
    ],
    ids=lambda command: command.split()[0],
)
def test_other_commands_say_in_one_line_what_to_install(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = light(*command.replace("GOLDEN", str(GOLDEN)).split())
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert re.fullmatch(
        r"squeeze: this command needs \w+, which is not installed\. "
        r"In squeeze's repository: pip install '\.\[full\]'",
        line,
    )


def test_every_extra_that_a_message_names_exists() -> None:
    sources = [*ROOT.glob("squeeze/**/*.py"), *ROOT.glob("train/**/*.py"), *ROOT.glob("docs/*.md")]
    sources.append(ROOT / "README.md")
    named = re.compile(
        r"pip install (?:-\w )*'?\.\[(\w+)\]|MissingPackage\([^)]*?\"(\w+)\"\s*\)", re.S
    )
    extras = {
        extra
        for path in sources
        for match in named.findall(path.read_text(encoding="utf-8"))
        for extra in match
        if extra
    }
    assert {"full", "plot", "data"} <= extras <= set(PROJECT["optional-dependencies"])


def test_no_text_installs_a_distribution_that_no_index_has() -> None:
    for path in (ROOT / "README.md", *ROOT.glob("docs/*.md"), *ROOT.glob("squeeze/**/*.py")):
        assert not re.search(
            r"pip install[^\n]*squeeze-lm(?! @ git)", path.read_text(encoding="utf-8")
        ), path
