"""Results on disk, and the markdown they become."""

from __future__ import annotations

import json
import re
import statistics
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

Result = dict[str, Any]
NUMBER = re.compile(r"[-+0-9.,]*( ± [0-9.]+)?( ?%)?$|–$")
RESULTS = Path(__file__).resolve().parent / "results"


def find(name: str) -> Path | None:
    """The newest JSON of a benchmark."""
    found = sorted(RESULTS.glob(f"????-??-??-{name}.json"))
    return found[-1] if found else None


def load(name: str) -> Result:
    """What a benchmark wrote last. Raises FileNotFoundError."""
    path = find(name)
    if path is None:
        raise FileNotFoundError(f"no benchmarks/results/DATE-{name}.json: run its benchmark")
    result: Result = json.loads(path.read_text(encoding="utf-8"))
    return result


def table(titles: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A markdown table; columns of numbers right, others left."""
    body = [["–" if cell is None else str(cell) for cell in row] for row in rows]
    numeric = [all(NUMBER.match(cell) for cell in column) for column in zip(*body, strict=True)]
    lines = [titles, ["--:" if right else "---" for right in numeric], *body]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def spread(mean: float, sd: float | None, digits: int, sign: bool = False) -> str:
    """`mean ± sd`, the latter only where there are several runs."""
    text = f"{mean:{'+' if sign else ''}.{digits}f}"
    return text if sd is None else f"{text} ± {sd:.{digits}f}"


def means(lines: Sequence[Result], *names: str) -> dict[str, float | None]:
    """The mean of each value over several lines, and as NAME_sd its deviation; None of a single one."""
    row: dict[str, float | None] = {}
    for name in names:
        values = [line[name] for line in lines]
        row[name] = statistics.mean(values)
        row[f"{name}_sd"] = statistics.stdev(values) if len(values) > 1 else None
    return row


def machine(result: Result) -> str:
    """Where a result comes from."""
    return (
        f"commit {result['commit']}, {result['date']}, {result['processor']}, "
        f"{result['cores']} cores at load {result['load']:.1f}, torch {result['torch']}, "
        f"{result['threads']} thread{'s' if result['threads'] > 1 else ''}"
    )
