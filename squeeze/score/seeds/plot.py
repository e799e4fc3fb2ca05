"""A picture of seeds: each a dot with its file's name, means with 95 % intervals, the rule's line."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path, PurePath
from typing import Any

from squeeze.errors import SqueezeError, printable
from squeeze.files import write_atomic
from squeeze.score.seeds.compare import Seeds
from squeeze.score.seeds.logged import LoggedSeeds
from squeeze.score.seeds.student import MARGIN_NATS, spread

NATS = "nats_per_token"
SMALL: dict[str, Any] = {"fontsize": 7, "ha": "right", "va": "center", "color": "dimgray"}


def plot_seeds(runs: Mapping[str, Seeds | LoggedSeeds], metric: str, path: Path) -> None:
    """Draw runs by name to an .svg, .png or .pdf; raises SqueezeError when that cannot be written."""
    import matplotlib
    from matplotlib.figure import Figure

    figure = Figure(figsize=(1.5 + 1.8 * len(runs), 4), layout="constrained")
    axes = figure.add_subplot()
    for column, seeds in enumerate(runs.values()):
        values = seeds.values(metric)
        bar = spread(values)
        axes.plot([column] * len(values), values, "o", color=f"C{column}", alpha=0.6)
        for file, value in zip(seeds.files, values, strict=True):
            name = printable(PurePath(file).stem).replace("$", r"\$")  # no mathematics
            axes.annotate(name[:24], (column, value), (-6, 0), textcoords="offset points", **SMALL)
        half = 0.0 if bar.high is None else bar.high - bar.mean
        axes.errorbar(column + 0.15, bar.mean, half, fmt="_", color=f"C{column}", capsize=4)
    axes.set_xticks(range(len(runs)), [f"{name}, n = {len(s.files)}" for name, s in runs.items()])
    axes.set_xlim(-0.5, len(runs) - 0.5)
    axes.set_ylabel(f"{metric.replace('_', ' ')}: seeds, mean and 95 % interval")
    axes.set_title("seeds, lower is better", fontsize=10)
    if metric == NATS and len(runs) > 1:
        # the challenge's rule: a new run has to be below this line
        line = spread(list(runs.values())[-1].values(metric)).mean - MARGIN_NATS
        axes.axhline(line, color="gray", linestyle="--", linewidth=0.8)
        axes.annotate(
            f"{MARGIN_NATS} better",
            (len(runs) - 0.5, line),
            (-3, 3),
            textcoords="offset points",
            **SMALL,
        )
    axes.ticklabel_format(axis="y", useOffset=False)
    picture, kind = io.BytesIO(), path.suffix.removeprefix(".").lower()
    try:
        with matplotlib.rc_context({"svg.hashsalt": "squeeze"}):  # the same picture, the same bytes
            figure.savefig(picture, format=kind, metadata={"Date": None} if kind == "svg" else None)
    except ValueError as error:
        raise SqueezeError(f"{path}: cannot be drawn: {error}") from None
    write_atomic(path, picture.getvalue())
