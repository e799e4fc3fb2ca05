"""Reports of several rows: benchmarks/results/DATE-NAME.json, and its table as .md beside it."""

from __future__ import annotations

import json
from importlib.metadata import version
from typing import Any

from machine import result_path, save


def earlier_rows(name: str) -> list[dict[str, Any]]:
    """Rows of today's report of that name, to be kept where a run measures only a part."""
    path = result_path(name)
    return json.loads(path.read_text())["rows"] if path.exists() else []


def write_report(name: str, rows: list[dict[str, Any]], markdown: str) -> None:
    """Write both files and print the path of the markdown one."""
    releases = {"numpy": version("numpy"), "numba": version("numba")}
    result = save(name, {**releases, "rows": rows})
    head = json.loads(result.read_text())
    described = ", ".join(f"{key} {value}" for key, value in head.items() if key != "rows")
    path = result.with_suffix(".md")
    path.write_text(f"# {name}\n\n{described}\n\n{markdown}\n")
    print(path)
