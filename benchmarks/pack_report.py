"""Tables and the picture of `pack_quality`, from its lines."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from inputs import ROOT

from squeeze.packing.presets import TARGETS

Line = dict[str, Any]
PEER = "record-1394"


def summary(lines: Sequence[Line]) -> list[Line]:
    """Mean and standard deviation over the seeds, and the share of the peer's KL at equal bytes."""
    rows = []
    for size, what in sorted({(x["size"], x["what"]) for x in lines}):
        here = [x for x in lines if (x["size"], x["what"]) == (size, what)]
        peer = {x["seed"]: x for x in lines if x["size"] == size and x["what"] == peer_of(size)}
        row: Line = {"size": size, "what": what, "n": len(here)}
        for key in ("bytes", "bits_per_weight", "kl", "gap", "cpu_s"):
            values = np.array([x[key] for x in here])
            row |= {key: values.mean(), f"{key}_sd": values.std(ddof=1) if len(here) > 1 else None}
        row |= {"updates": sorted({x["updates"] for x in here if "updates" in x})}
        pairs = [(x, peer[x["seed"]]) for x in here if x["seed"] in peer]
        if pairs and what != peer_of(size):
            shares = np.array([x["kl"] / p["kl"] for x, p in pairs])
            row |= {"kl_share": shares.mean(), "kl_share_largest": shares.max()}
            row |= {"unused_largest": max(p["bytes"] - x["bytes"] for x, p in pairs)}
            differences = np.array([x["gap"] - p["gap"] for x, p in pairs])
            row |= {"gap_difference": differences.mean()}
            row |= {"gap_difference_sd": differences.std(ddof=1) if len(pairs) > 1 else None}
        rows.append(row)
    return rows


def peer_of(size: str) -> str:
    """The record whose bytes are the limit at a size."""
    return size if size.startswith("record") else PEER


def saved_at_equal_kl(lines: Sequence[Line], what: str) -> dict[str, str]:
    """Per cent of the peer's bytes that ours needs less of at the peer's KL, by size.

    Between our files along a line of bytes over log KL, of the seeds' means; where even our smallest
    file has a lower KL than the peer, "over" what that one saves.
    """
    rows = {(row["size"], row["what"]): row for row in summary(lines)}
    ours = [
        row for (size, name), row in rows.items() if name == what and not size.startswith("record")
    ]
    curve = sorted((math.log2(row["kl"]), row["bytes"]) for row in ours)
    kls, sizes = [point[0] for point in curve], [point[1] for point in curve]
    saved = {}
    for (size, name), row in rows.items():
        if name == PEER and curve:
            wanted = math.log2(row["kl"])
            share = 100 * (1 - float(np.interp(wanted, kls, sizes)) / row["bytes"])
            saved[size] = f"{'over ' if wanted > kls[-1] else ''}{share:.0f} %"
    return saved


def report(lines: Sequence[Line], head: Line, name: str) -> None:
    """Write benchmarks/results/NAME.md and .png."""
    place = ROOT / "benchmarks" / "results" / name
    place.with_suffix(".md").write_text(_table(lines, head))
    _draw(lines, place.with_suffix(".png"))


def _table(lines: Sequence[Line], head: Line) -> str:
    text = [
        f"# Packing {head['checkpoint']}",
        "",
        f"Calibrated on {head['calibration_tokens']:,} tokens ({head['calibrated_on']}), scored on "
        f"{head['targets_a_seed']:,} targets a seed, other ones for every seed. KL(fp32 ‖ packed) and "
        "BPB gap in bits per byte, mean ± sd over n seeds; share: of the KL of the record at the same "
        "bytes, seed by seed; difference: of the gaps, the same way.",
        "",
        "| size | what | n | bytes | bits/weight | KL | share | gap | difference | CPU s | updates |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in summary(lines):
        share = f"{row['kl_share']:.3f}" if "kl_share" in row else ""
        difference = _spread(row, "gap_difference", "+.5f") if "gap_difference" in row else ""
        text.append(
            f"| {row['size']} | {row['what']} | {row['n']} | {row['bytes']:,.0f} "
            f"| {row['bits_per_weight']:.3f} | {_spread(row, 'kl', '.5f')} | {share} "
            f"| {_spread(row, 'gap', '+.5f')} | {difference} | {row['cpu_s']:.0f} "
            f"| {', '.join(f'{updates:,}' for updates in row['updates'])} |"
        )
    for what in sorted({x["what"] for x in lines} - {PEER} - {peer_of(x["size"]) for x in lines}):
        saved = saved_at_equal_kl(lines, what)
        if saved:
            shares = ", ".join(f"{share} at {size}" for size, share in sorted(saved.items()))
            text += ["", f"Bytes that {what} saves at {PEER}'s KL: {shares} bits per weight."]
    return "\n".join(text) + "\n"


def _spread(row: Line, key: str, form: str) -> str:
    spread = row[f"{key}_sd"]
    return f"{row[key]:{form}}" + (f" ± {spread:{form.lstrip('+')}}" if spread is not None else "")


def _draw(lines: Sequence[Line], path: Path) -> None:
    """KL and score against bytes: means over the seeds with their standard deviations."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
    fp32 = float(np.mean([x["fp32_bpb"] for x in lines]))
    means = summary(lines)
    for what in sorted({x["what"] for x in lines}):
        rows = sorted((x for x in means if x["what"] == what), key=lambda x: x["bytes"])
        name = f"squeeze, {what}" if what in TARGETS else what
        size = [x["bytes"] / 1e6 for x in rows]
        for axes, key, base in ((left, "kl", 0.0), (right, "gap", fp32)):
            values, spread = [base + x[key] for x in rows], [x[f"{key}_sd"] or 0.0 for x in rows]
            axes.errorbar(size, values, spread, fmt="o-", ms=4, lw=1, capsize=3, label=name)
    right.axhline(fp32, color="gray", linewidth=0.8, label=f"fp32, {fp32:.4f}")
    left.set(yscale="log", ylabel="KL(fp32 ‖ packed), bits per byte", xlabel="file, megabytes")
    right.set(ylabel="score, bits per byte", xlabel="file, megabytes")
    for axes in (left, right):
        axes.grid(alpha=0.25)
        axes.legend()
    seeds = max(x["n"] for x in means)
    figure.suptitle(
        f"bars: ± one standard deviation, where {seeds} seeds were measured", fontsize=9
    )
    figure.savefig(path, dpi=120, metadata={"Software": None})
