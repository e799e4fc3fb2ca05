"""Results on disk: benchmarks/results/DATE-NAME.json and .md, headed by machine and commit."""

from __future__ import annotations

import json
from importlib.metadata import version
from pathlib import Path
from typing import Any

from machine import ROOT, facts


def earlier_rows(name: str) -> list[dict[str, Any]]:
    """Rows of today's report of that name, to be kept where a run measures only a part."""
    path = _stem(name, facts()["date"]).with_suffix(".json")
    return json.loads(path.read_text())["rows"] if path.exists() else []


def write_report(name: str, rows: list[dict[str, Any]], markdown: str) -> Path:
    """Write both files and return the path of the markdown one."""
    head = {**facts(), "numpy": version("numpy"), "numba": version("numba")}
    stem = _stem(name, head["date"])
    stem.parent.mkdir(exist_ok=True)
    stem.with_suffix(".json").write_text(json.dumps({**head, "rows": rows}, indent=1) + "\n")
    path = stem.with_suffix(".md")
    described = ", ".join(f"{key} {value}" for key, value in head.items())
    path.write_text(f"# {name}\n\n{described}\n\n{markdown}\n")
    print(path)
    return path


def _stem(name: str, date: str) -> Path:
    return ROOT / "benchmarks" / "results" / f"{date}-{name}"
