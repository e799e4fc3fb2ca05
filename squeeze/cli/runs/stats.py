"""Runs `squeeze stats`: reads reports, compares runs, draws them, and prints the figures."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from squeeze.cli.terminal.printing import print_json, print_line, print_notes
from squeeze.files import check_outputs
from squeeze.score.seeds.compare import Comparison, Seeds, compare, read_seeds
from squeeze.score.seeds.logged import LoggedSeeds
from squeeze.score.seeds.plot import plot_seeds
from squeeze.score.seeds.student import p_text, spread


@dataclass(frozen=True)
class StatsRequest:
    """Options of `squeeze stats`, each under its name."""

    run: tuple[Path, ...]
    against: tuple[Path, ...]
    metric: str
    score: str | None
    plot: Path | None
    as_json: bool


def run(request: StatsRequest) -> None:
    """Print the figures of one run, or of two and their difference; draw them on request."""
    metric, plot = request.metric, request.plot
    check_outputs([plot], [*request.run, *request.against])
    runs = {"run": read_seeds(request.run, request.score)}
    comparison = None
    if request.against:
        runs["against"] = read_seeds(request.against, request.score)
        comparison = compare(runs["run"], runs["against"], metric)
    if plot is not None:
        plot_seeds(runs, metric, plot)
    if request.as_json:
        print_json(
            {
                "metric": metric,
                **{name: _as_json(seeds, metric) for name, seeds in runs.items()},
                **({} if comparison is None else {"comparison": comparison.as_json()}),
                **({} if plot is None else {"plot": str(plot)}),
            }
        )
        return
    print_line(f"{metric}, lower is better")
    for name, seeds in runs.items():
        _print_seeds(name, seeds, metric)
    if comparison is not None:
        _print_comparison(comparison)


def _as_json(seeds: Seeds | LoggedSeeds, metric: str) -> dict[str, Any]:
    """Return the figures of one run as plain values."""
    values = seeds.values(metric)
    return {
        **vars(spread(values)),
        "values": values,
        "files": list(seeds.files),
        "official": seeds.official,
        "notes": list(seeds.notes),
    }


def _print_seeds(name: str, seeds: Seeds | LoggedSeeds, metric: str) -> None:
    """Print the figures of one run on a line."""
    row = spread(seeds.values(metric))
    line = f"{name:<9}n = {row.n}   mean {row.mean:.6f}"
    if row.sd is not None:
        line += f"   sd {row.sd:.6f}   95 % {row.low:.6f} to {row.high:.6f}"
    unknown = "not told whether" if isinstance(seeds, LoggedSeeds) else "not"
    print_line(line + ("" if seeds.official else f"   ({unknown} the official validation set)"))
    print_notes(seeds.notes, f"note: {name}: ")


def _print_comparison(comparison: Comparison) -> None:
    """Print the two tests of a difference."""
    better, rule, passes = comparison.better, comparison.rule, comparison.passes
    print_line(f"gain     {comparison.gain:+.6f}   {p_text(better.p)} that there is none")
    verdict = "passes" if passes else "does not pass"
    if not comparison.applies:
        verdict = f"would {'pass' if passes else 'not pass'} on this part of the data"
    print_line(
        f"rule     {verdict}: {p_text(rule.p)} for a gain of at most "
        f"{comparison.margin:.6f} (Welch, t = {rule.t:.2f}, df = {rule.df:.1f})"
    )
