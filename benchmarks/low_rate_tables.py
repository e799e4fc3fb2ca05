"""Summary and table of benchmarks/low_rates.py."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from result_files import means, spread, table

# values that tell one line from another, and those of which a row is the mean
WHICH = ("bits", "neighbour", "seed", "preset", "tune", "label")
TOGETHER = ("bits", "preset", "updates", "next_tokens", "label", "processor")


def summary(lines: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return mean and spread of each rate, preset, course and label, on each processor."""
    groups: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for line in lines:
        groups.setdefault(tuple(line[name] for name in TOGETHER), []).append(line)
    rows = []
    for group in groups.values():
        row = {name: group[0][name] for name in TOGETHER}
        row["commits"] = ", ".join(sorted({line["commit"] for line in group}))
        row |= {"n": len(group), "seeds": len({line["seed"] for line in group})}
        row |= means(group, "kl", "gap", "cpu_s")
        row["unused"] = [line["limit"] - line["bytes"] for line in group]
        rows.append(row)
    order = ("preset", "updates", "next_tokens")
    return sorted(rows, key=lambda row: (-row["bits"], *(row[name] for name in order)))


def markdown(rows: Iterable[dict[str, Any]]) -> str:
    """Return a summary as a table."""
    titles = "bits,preset,updates,next tokens,label,packs,seeds,KL in bits per byte,gap,CPU s,"
    titles += "unused bytes,processor,commit"
    return table(
        titles.split(","),
        (
            [
                row["bits"], row["preset"], f"{row['updates']:,}",
                f"{row['next_tokens']:.0%}" if row["next_tokens"] else None, row["label"] or None,
                row["n"], row["seeds"], spread(row["kl"], row["kl_sd"], 5),
                spread(row["gap"], row["gap_sd"], 4, sign=True), f"{row['cpu_s']:.0f}",
                f"{min(row['unused'])} to {max(row['unused'])}", row["processor"], row["commits"],
            ]
            for row in rows
        ),
    )  # fmt: skip
