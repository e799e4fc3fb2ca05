"""`squeeze stats`: mean, spread and significance over the seeds of a run, or of two runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from squeeze.cli.options import json_option
from squeeze.cli.terminal.printing import print_json, print_line, print_notes
from squeeze.files import check_outputs
from squeeze.score.logged import LoggedSeeds
from squeeze.score.report import METRICS
from squeeze.score.stats import Comparison, Seeds, compare, read_seeds
from squeeze.score.student import spread

FILE = click.Path(path_type=Path)


@click.command("stats")
@click.argument("run", type=FILE, nargs=-1, required=True)
@click.option("--against", type=FILE, multiple=True, help="Report of the run to beat; repeatable.")
@click.option(
    "--metric",
    type=click.Choice(METRICS),
    default=METRICS[0],
    show_default=True,
    help="Metric to compare; take bpb where the tokenizers differ.",
)
@click.option("--score", metavar="NAME", help="Score of logs  [the last that all of them print].")
@click.option("--plot", type=FILE, help="Picture of the seeds to write (.svg, .png).")
@json_option
def command(
    run: tuple[Path, ...],
    against: tuple[Path, ...],
    metric: str,
    score: str | None,
    plot: Path | None,
    as_json: bool,
) -> None:
    """Show mean and spread over the seeds of a RUN: reports of `squeeze eval --json`, one a seed.

    Training logs, one a seed, or the folder of a submission do as well.

    With --against it also runs Welch's one-sided test of the difference, and the challenge's rule:
    at least 0.005 nats better at p < 0.01. Different configurations are refused.

    \b
    Example:
      squeeze stats new-1.json new-2.json new-3.json \\
          --against old-1.json --against old-2.json --against old-3.json --plot seeds.svg
      squeeze stats records/nine/ --against records/eight/ --metric bpb
    """
    check_outputs([plot], [*run, *against])
    runs = {"run": read_seeds(run, score)}
    comparison = None
    if against:
        runs["against"] = read_seeds(against, score)
        comparison = compare(runs["run"], runs["against"], metric)
    if plot is not None:
        from squeeze.score.stats_plot import plot_seeds

        plot_seeds(runs, metric, plot)
    if as_json:
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
    print_line(f"gain     {comparison.gain:+.6f}   p = {better.p:.2g} that there is none")
    verdict = "passes" if passes else "does not pass"
    if not comparison.applies:
        verdict = f"would {'pass' if passes else 'not pass'} on this part of the data"
    print_line(
        f"rule     {verdict}: p = {rule.p:.2g} for a gain of at most "
        f"{comparison.margin:.6f} (Welch, t = {rule.t:.2f}, df = {rule.df:.1f})"
    )
