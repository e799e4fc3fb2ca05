"""The ledger as one HTML file that needs nothing else: works offline, light and dark, by keyboard."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from importlib.resources import files
from typing import Any

from squeeze import __version__
from squeeze.ledger.table import Ledger
from squeeze.packing.plan import Plan
from squeeze.rows import Row
from squeeze.tensors.roles import role_of
from squeeze.views.text import verdict
from squeeze.views.totals import Totals
from squeeze.views.tree import Floors

Histogram = Mapping[str, Any]


def page(
    ledger: Ledger,
    limit: int,
    *,
    floors: Floors | None = None,
    plan: Plan | None = None,
    histograms: Iterable[Histogram] = (),
    totals: Totals | None = None,
) -> str:
    """The report. histograms: see `squeeze.views.histograms`; totals: of a submission."""
    known = floors or {}
    rows = [
        {**asdict(row), "floor": known.get((row.file, row.tensor, row.kind))}
        for row in ledger.rows
    ]  # fmt: skip
    tensors = [] if plan is None else [
        {"name": t.name, "group": role_of(t.name).partition(".")[0], "bits": t.bits, "bytes": t.bytes,
         "loss": t.loss, "curve": t.curve}
        for t in plan.tensors
    ]  # fmt: skip
    data = {
        "title": title(list(ledger.files)),
        "verdict": verdict(ledger, limit, totals),
        "totals": None if totals is None else totals.as_json(limit),
        "total": ledger.total,
        "limit": limit,
        "rows": rows,
        "plan": tensors,
        "histograms": list(histograms),
        "code": modules(ledger),
        "foot": f"Bytes of files on disk; rows sum to {ledger.total:,}. squeeze {__version__}.",
    }
    text = json.dumps(data, separators=(",", ":"), allow_nan=False)
    # inside a script element only these could end it
    safe = text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")
    template = files("squeeze.views").joinpath("report.html").read_text(encoding="utf-8")
    return template.replace("/*DATA*/", safe)


def title(names: list[str]) -> str:
    """What a page of these files is called.

    >>> title(["model.sqz", "train_gpt.py"]), title(["run/a", "run/b", "run/c", "run/d"])
    ('model.sqz + train_gpt.py', 'run: 4 files')
    """
    if len(names) < 4:
        return " + ".join(names)
    folders = {name.partition("/")[0] for name in names if "/" in name}
    inside = len(folders) == 1 and all("/" in name for name in names)
    return f"{folders.pop()}: {len(names)} files" if inside else f"{len(names)} files"


def modules(ledger: Ledger) -> list[dict[str, Any]]:
    """Bytes of code by module, largest first, with each module's largest definitions."""
    found: dict[str, list[Row]] = {}
    for row in ledger.rows:
        if row.component == "code":
            found.setdefault(row.role or row.kind, []).append(row)
    grouped = [
        {
            "module": module,
            "bytes": sum(row.bytes for row in inner),
            "names": [
                f"{row.tensor} {row.bytes}"
                for row in sorted(inner, key=lambda row: -row.bytes)[:8]
                if row.tensor
            ],
        }
        for module, inner in found.items()
    ]
    return sorted(grouped, key=lambda group: -int(group["bytes"]))
