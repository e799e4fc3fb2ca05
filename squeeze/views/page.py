"""The ledger as one HTML file that needs nothing else: works offline, light and dark, by keyboard."""

from __future__ import annotations

import html
import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from squeeze import __version__
from squeeze.errors import printable
from squeeze.files import write_atomic
from squeeze.ledger.table import Ledger
from squeeze.packing.plan import Plan
from squeeze.rows import Row
from squeeze.views.compare import Change
from squeeze.views.scores import Score
from squeeze.views.text import verdict
from squeeze.views.totals import Totals
from squeeze.views.tree import Floors, tree

Histogram = Mapping[str, Any]
PAGE = b"<!doctype html>"  # first bytes of every page


@dataclass(frozen=True)
class Report:
    """Everything that a page shows.

    limit: bytes. plan: of the pack. histograms: see `squeeze.views.histograms`. totals: of a submission.
    score: of the files, where one is stated. paths: as the user named the files.
    changes: against an earlier ledger, and before: that ledger in words.
    """

    ledger: Ledger
    limit: int
    floors: Floors | None = None
    plan: Plan | None = None
    histograms: Sequence[Histogram] = ()
    totals: Totals | None = None
    score: Score | None = None
    paths: Sequence[str] = ()
    changes: Sequence[Change] = ()
    before: str = ""


def write_page(target: Path, report: Report) -> None:
    """Write the page of a report. Raises SqueezeError when it cannot be written."""
    write_atomic(target, page(report).encode())


def page(report: Report) -> str:
    """Return the HTML of a report."""
    ledger, limit, totals = report.ledger, report.limit, report.totals
    size = ledger.total if totals is None else totals.shipped_bytes
    floors = report.floors or {}
    tensors = () if report.plan is None else report.plan.tensors
    data = {
        "title": title(list(ledger.files)),
        "verdict": verdict(ledger, limit, totals),
        "over": ledger.has_model and size > limit,
        "cautions": [] if report.plan is None else list(report.plan.cost.cautions),
        "notes": list(ledger.notes),
        "totals": None if totals is None else totals.as_json(limit),
        "total": ledger.total,
        "limit": limit,
        "rows": [
            {**asdict(row), "floor": floors.get((row.file, row.tensor, row.kind))}
            for row in ledger.rows
        ],
        "plan": [
            {
                "name": tensor.name,
                "group": tensor.role.partition(".")[0],
                "bits": tensor.bits,
                "bytes": tensor.bytes,
                "loss": tensor.loss,
                "curve": tensor.curve,
            }
            for tensor in tensors
        ],
        "histograms": list(report.histograms),
        "code": modules(ledger),
        "prices": prices(report),
        "facts": facts(report),
        "before": report.before,
        "changes": [asdict(c) | {"delta": c.delta} for c in report.changes if c.delta],
        "next": following(report),
        "foot": f"Bytes of files on disk; rows sum to {ledger.total:,}. squeeze {__version__}.",
    }
    text = json.dumps(_shown(data), separators=(",", ":"), allow_nan=False)
    # only this could end a script element
    safe = text.replace("<", "\\u003c")
    template, style = (
        files("squeeze.views").joinpath(name).read_text(encoding="utf-8")
        for name in ("report.html", "report.css")
    )
    heading = html.escape(printable(str(data["title"])))
    return (
        template.replace("/*STYLE*/", style)
        .replace("<!--TITLE-->", heading)
        .replace("/*DATA*/", safe)
    )


def prices(report: Report) -> list[dict[str, Any]]:
    """Return what bytes buy, by role: bytes to save on its tensors until the score falls by 0.001."""
    if report.plan is None:
        return []
    roles = [
        role
        for component in tree(report.ledger, plan=report.plan).children
        for role in component.children
        if role.price is not None
    ]
    return [
        {"role": role.name, "bytes": role.bytes, "bits": role.bits, "price": role.price}
        for role in roles
    ]


def facts(report: Report) -> list[tuple[str, str]]:
    """Return the score, its cost and the making of an artifact, as names and texts."""
    pairs: list[tuple[str, str]] = []
    if report.score is not None:
        pairs.append(("score", f"{report.score.bpb:.6f} bits per byte"))
    plan = report.plan
    if plan is None:
        return pairs
    machine = plan.machine
    processors = ", ".join(filter(None, (machine.processor, machine.gpu)))
    return [
        *pairs,
        ("cost, measured", f"{plan.measure}: {plan.cost.verdict}"),
        ("cost, foreseen", f"{plan.in_bits(plan.expected):.6f} {plan.unit}"),
        (
            "packed for",
            f"{plan.limit:,} bytes, {plan.unused:,} of them unused, in {plan.trials} trial"
            f"{'' if plan.trials == 1 else 's'}",
        ),
        *([("packed on", f"{processors}; torch {machine.torch}")] if machine.torch else []),
        ("SHA-256", plan.sha256),
    ]


def following(report: Report) -> list[str]:
    """Return commands that usually come next."""
    names = shlex.join(report.paths or list(report.ledger.files))
    artifact = next((path for path in report.paths if path.endswith(".sqz")), None)
    if artifact is None:
        return [f"squeeze budget {names} --depth 4", f"squeeze budget {names} --squeezed"]
    foresee = [f"squeeze budget {shlex.quote(artifact)} --what-if mlp=3bit"]
    return [
        *(foresee if report.plan is not None else []),
        f"squeeze eval {shlex.quote(artifact)} --tokenizer TOKENIZER --val SHARDS",
        f"squeeze audit {shlex.quote(artifact)} --tokenizer TOKENIZER --val SHARDS",
    ]


def _shown(value: Any) -> Any:
    """Return plain values with every text in them as it is to be seen."""
    if isinstance(value, str):
        return printable(value)
    if isinstance(value, Mapping):
        return {_shown(key): _shown(inner) for key, inner in value.items()}
    return [_shown(inner) for inner in value] if isinstance(value, list | tuple) else value


def title(names: list[str]) -> str:
    """Return the title of a page of these files.

    >>> title(["model.sqz", "train_gpt.py"]), title(["run/a", "run/b", "run/c", "run/d"])
    ('model.sqz + train_gpt.py', 'run: 4 files')
    """
    if len(names) < 4:
        return " + ".join(names)
    folders = {name.partition("/")[0] for name in names if "/" in name}
    inside = len(folders) == 1 and all("/" in name for name in names)
    return f"{folders.pop()}: {len(names)} files" if inside else f"{len(names)} files"


def modules(ledger: Ledger) -> list[dict[str, Any]]:
    """Return the bytes of code by module, largest first, with each module's largest definitions."""
    by_module: dict[str, list[Row]] = {}
    for row in ledger.rows:
        if row.component == "code":
            by_module.setdefault(row.role or row.kind, []).append(row)
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
        for module, inner in by_module.items()
    ]
    return sorted(grouped, key=lambda group: -int(group["bytes"]))
