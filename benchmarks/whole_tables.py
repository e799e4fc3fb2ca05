"""Summary and table of benchmarks/whole.py."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from statistics import mean
from typing import Any

from result_files import means, spread, table

WHICH = ("size", "budget", "way", "seed", "label")  # values that tell one line from another


def summary(lines: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return mean and spread of each point, way and label, on each processor.

    CPU seconds buy more on one processor than on another, and one seed scores better than another: ways
    are compared on the same processor, seed by seed.
    """
    together = (*(name for name in WHICH if name != "seed"), "processor")
    groups: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for line in lines:
        groups.setdefault(tuple(line[name] for name in together), []).append(line)
    rows = []
    for group in groups.values():
        row = {name: group[0][name] for name in (*together, "weights")}
        row["commits"] = ", ".join(sorted({line["commit"] for line in group}))
        row |= {"n": len(group), "bytes": max(line["bytes"] for line in group)}
        row["valid"] = all(line["in_time"] and line["fits"] for line in group)
        row |= means(group, "bpb", "bpb_before_packing", "cpu_s", "tokens_seen")
        row["scores"] = {str(line["seed"]): line["bpb"] for line in group}
        rows.append(row)
    rows.sort(key=lambda row: (*_point(row), row["way"], row["label"]))
    baselines = {_point(row): row for row in rows if row["way"] == "baseline"}
    for row in rows:
        pairs = [] if row["way"] == "baseline" else _pairs(baselines.get(_point(row)), row)
        row["below_baseline"] = (
            mean(pair["baseline"] - pair["squeeze"] for pair in pairs) if pairs else None
        )
    return rows


def _pairs(theirs: dict[str, Any] | None, ours: dict[str, Any]) -> list[dict[str, float]]:
    """Return the scores of both ways at the seeds that both have."""
    known = {} if theirs is None else theirs["scores"]
    return [
        {"baseline": known[seed], "squeeze": score}
        for seed, score in ours["scores"].items()
        if seed in known
    ]


def _point(row: dict[str, Any]) -> tuple[float, int, str]:
    return row["budget"], row["size"], row["processor"]


def markdown(rows: Iterable[dict[str, Any]]) -> str:
    """Return a summary as a table; a row over its bytes or its time says so."""
    titles = (
        "limit,CPU s,way,label,weights,bytes,bits a weight,CPU s used,tokens,seeds,bits per byte,"
    )
    titles += "before packing,below the baseline,processor,commit,"
    return table(
        titles.split(","),
        (
            [
                f"{row['size']:,}", f"{row['budget']:g}", row["way"], row["label"] or None,
                f"{row['weights']:,}", f"{row['bytes']:,}",
                f"{8 * row['bytes'] / row['weights']:.2f}", f"{row['cpu_s']:.0f}",
                f"{row['tokens_seen']:,.0f}", row["n"], spread(row["bpb"], row["bpb_sd"], 4),
                f"{row['bpb_before_packing']:.4f}",
                None if row["below_baseline"] is None else f"{row['below_baseline']:+.4f}",
                row["processor"], row["commits"],
                "" if row["valid"] else "over its limit",
            ]
            for row in rows
        ),
    )  # fmt: skip


def beside(rows: Iterable[dict[str, Any]]) -> str:
    """Return the points that both ways were measured at with the same seeds, beside each other."""
    points: dict[tuple[float, int, str], dict[str, dict[str, Any]]] = {}
    for row in rows:
        if "n" in row and not row["label"]:
            points.setdefault(_point(row), {})[row["way"]] = row
    titles = "limit,CPU s,n,baseline,squeeze,below the baseline,weights,bits a weight,processor"
    body = []
    for (budget, size, processor), ways in sorted(points.items()):
        if len(ways) == 2:
            theirs, ours = ways["baseline"], ways["squeeze"]
            if not (pairs := _pairs(theirs, ours)):
                continue
            fits = theirs["valid"] and ours["valid"]
            both = means(pairs, "baseline", "squeeze")
            scores = [spread(both[way], both[f"{way}_sd"], 4) for way in ("baseline", "squeeze")]
            body.append(
                [
                    f"{size:,}{'' if fits else ' (exceeded)'}", f"{budget:g}",
                    len(pairs), *scores, f"{ours['below_baseline']:+.4f}",
                    f"{theirs['weights']:,} / {ours['weights']:,}",
                    " / ".join(f"{8 * row['bytes'] / row['weights']:.2f}" for row in (theirs, ours)),
                    processor.replace(" Processor", "").replace("(R)", ""),
                ]
            )  # fmt: skip
    return table(titles.split(","), body)
