"""What `squeeze demo` says at its end: figures, files, and the page it wrote."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result

from squeeze.cli.demo_cmd import command
from squeeze.cli.runs.demo import DemoOptions
from squeeze.demo import Files
from tests.squeeze.views.test_views import artifact, plan_of

FIGURES = {
    "fp32_bpb": 2.9, "packed_bpb": 2.95, "fp32_bytes": 99_999, "packed_bytes": 9_000,
    "limit": 20_000, "unused_bytes": 11_000, "bits_per_weight": 3.0,
}  # fmt: skip


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Pages that were opened by a demo without its training."""

    def make_model(files: Files, options: DemoOptions) -> dict[str, Any]:
        cache = files.folder / "model.sqz.cache"
        cache.mkdir(parents=True)
        files.artifact.write_bytes(artifact())
        plan_of(artifact()).save(cache / "plan.json")
        return dict(FIGURES)

    pages: list[str] = []
    monkeypatch.setattr("squeeze.cli.runs.demo.make_model", make_model)
    monkeypatch.setattr(click, "launch", pages.append)
    return pages


def demo(folder: Path, *options: str) -> Result:
    return CliRunner().invoke(command, ["--out", str(folder), "--limit", "20000", *options])


def test_it_ends_by_naming_the_page_it_wrote(tmp_path: Path, opened: list[str]) -> None:
    result = demo(tmp_path / "d")
    assert result.exit_code == 0, result.output
    report = tmp_path / "d" / "report.html"
    assert result.stdout.splitlines()[-1].startswith("report: ")
    assert "report.html" in result.stdout and opened == []
    assert '"curve"' in report.read_text()  # with the plan's curves


def test_it_opens_the_page_when_asked(tmp_path: Path, opened: list[str]) -> None:
    assert demo(tmp_path / "d", "--open").exit_code == 0
    assert opened == [str(tmp_path / "d" / "report.html")]


def test_json_names_the_page(tmp_path: Path, opened: list[str]) -> None:
    facts = json.loads(demo(tmp_path / "d", "--json").stdout)
    assert facts["report"] == str(tmp_path / "d" / "report.html") and facts["packed_bpb"] == 2.95
