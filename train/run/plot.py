"""The loss curve of a run's log, and its schedule. matplotlib, an extra, is imported when drawing."""

from __future__ import annotations

import importlib.util
import io
import itertools
from pathlib import Path
from typing import Any

import numpy as np

from squeeze.errors import MissingPackage, printable
from squeeze.files import write_atomic
from squeeze.train.run.log import read_event, read_steps

SMOOTHING = 50  # the line is the mean of so many points of the curve


def has_matplotlib() -> bool:
    """Return whether curves can be drawn."""
    return importlib.util.find_spec("matplotlib") is not None


def need_matplotlib() -> None:
    """Raise MissingPackage when curves cannot be drawn."""
    if not has_matplotlib():
        raise MissingPackage("a loss curve needs matplotlib", "plot")


def pictures_of(log: Path) -> list[Path]:
    """Return the files that `plot_log` draws."""
    return [log.with_suffix(".svg"), log.with_suffix(".png")]


def switches(begin: dict[str, Any], entries: list[dict[str, Any]]) -> list[tuple[int, str]]:
    """Return the steps from which something is on that was off before, and its words, in order.

    begin: the log's first line, with `recipe` and `config`
    entries: its steps; one begins at the progress of the one before
    """
    recipe, config = begin.get("recipe") or {}, begin.get("config") or {}
    starts: dict[str, float] = {}
    if config.get("layer_schedule"):
        starts["recurrence"] = recipe.get("recurrence_start", 0.0)
    starts["rounding (qat)"] = recipe.get("qat_start", 1.0)
    if recipe.get("average", "none") != "none":
        starts["averaging"] = recipe.get("average_start", 0.0)
    if recipe.get("warmdown"):
        starts["warm-down"] = 1.0 - recipe["warmdown"]
    marks = []
    for words, start in starts.items():
        least = recipe.get("recurrence_step", 0) if words == "recurrence" else 0
        on = [
            entry["step"]
            for before, entry in itertools.pairwise(entries)
            if before.get("progress", 0.0) >= start and before["step"] >= least
        ]
        if on and on[0] > entries[1]["step"]:  # on from the start: no switch
            marks.append((on[0], words))
    return sorted(marks)


def plot_log(log: Path) -> list[Path]:
    """Draw loss over steps beside a run's log; return the .svg and .png, none without steps.

    Marks show from which step on repeated blocks repeat, weights are rounded or averaged, and rates
    fall; a point shows the loss of the checkpoint on validation text, where it was scored.
    """
    need_matplotlib()
    entries = read_steps(log)
    if not entries:
        return []
    import matplotlib
    from matplotlib.figure import Figure

    matplotlib.rcParams["svg.hashsalt"] = "squeeze"  # equal runs, equal files
    steps = np.array([entry["step"] for entry in entries])
    losses = np.array([entry["loss"] for entry in entries])
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.add_subplot()
    axes.plot(steps, losses, color="#b8c4d6", linewidth=0.8, label="step")
    width = max(1, len(losses) // SMOOTHING)
    means = np.convolve(losses, np.ones(width) / width, "valid")
    axes.plot(steps[width - 1 :], means, color="#1f4e8c", label=f"mean of {width}")
    low, high = np.quantile(losses, [0.0, 0.98])
    axes.set_ylim(low - 0.05 * (high - low) - 1e-3, high + 0.1 * (high - low) + 1e-3)
    title = printable(log.stem).replace("$", r"\$")  # no mathematics
    axes.set(xlabel="step", ylabel="loss (nats per token)", title=title)
    axes.grid(alpha=0.3)
    for step, words in switches(read_event(log, "begin"), entries):
        axes.axvline(step, color="#7a7a7a", linewidth=0.8, linestyle=":")
        axes.annotate(
            words,
            (step, 1.0),
            xycoords=("data", "axes fraction"),
            xytext=(2, -3),
            textcoords="offset points",
            rotation=90,
            va="top",
            fontsize="small",
            color="#4d4d4d",
        )
    validation = read_event(log, "end").get("val_loss")
    if isinstance(validation, float):
        label = f"validation, {validation:.6f}"
        axes.plot(steps[-1:], [validation], "o", color="#2d7d46", label=label)
        low, high = min(low, validation), max(high, validation)
        axes.set_ylim(low - 0.05 * (high - low) - 1e-3, high + 0.1 * (high - low) + 1e-3)
    rates = [rate for entry in entries if isinstance(rate := entry.get("rate"), float)]
    if len(rates) == len(entries):
        schedule = axes.twinx()
        schedule.plot(steps, rates, color="#c2762d", linewidth=1, linestyle="--")
        schedule.set_ylim(0, 1.05 * max(1.0, *rates))
        schedule.set_ylabel("learning rate, share of its peak (dashed)")
    axes.legend()
    paths = pictures_of(log)
    for path in paths:
        kind = path.suffix.removeprefix(".")
        undated = {"Date": None} if kind == "svg" else None
        picture = io.BytesIO()
        figure.savefig(picture, format=kind, metadata=undated, dpi=120)
        write_atomic(path, picture.getvalue())
    return paths
