"""`squeeze stats`: what the seeds of a run, or of two runs, really say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from squeeze.cli.options import json_option
from squeeze.cli.terminal.printing import print_json, print_line, print_notes

FILE = click.Path(path_type=Path)


@click.command("stats")
@click.argument("run", type=FILE, nargs=-1, required=True)
@click.option("--against", type=FILE, multiple=True, help="Report of the run to beat; repeatable.")
@click.option(
    "--metric",
    type=click.Choice(["nats_per_token", "bpb"]),
    default="nats_per_token",
    show_default=True,
    help="bpb where tokenizers differ.",
)
@click.option("--plot", type=FILE, help="Picture of the seeds to write (.svg, .png).")
@json_option
def command(
    run: tuple[Path, ...],
    against: tuple[Path, ...],
    metric: str,
    plot: Path | None,
    as_json: bool,
) -> None:
    """Mean and spread over the seeds of a RUN: reports of `squeeze eval --json`, one a seed.

    With --against, Welch's one-sided test of the difference and the challenge's rule: at least 0.005
    nats better at p < 0.01. Reports of different configurations are refused.

    \b
    Example:
      squeeze stats new-1.json new-2.json new-3.json \\
          --against old-1.json --against old-2.json --against old-3.json --plot seeds.svg
    """
    from squeeze.files import check_outputs
    from squeeze.score.stats import compare, read_seeds, spread

    check_outputs([plot], [*run, *against])
    runs = {"run": read_seeds(run)}
    if against:
        runs["against"] = read_seeds(against)
    report: dict[str, Any] = {"metric": metric}
    for name, seeds in runs.items():
        values = seeds.values(metric)
        report[name] = {
            **vars(spread(values)),
            "values": values,
            "files": list(seeds.files),
            "official": seeds.reports[0]["official"],
            "notes": list(seeds.notes),
        }
    if against:
        report["comparison"] = compare(runs["run"], runs["against"], metric)
    if plot is not None:
        from squeeze.score.stats_plot import plot_seeds

        plot_seeds(runs, metric, plot)
        report["plot"] = str(plot)
    if as_json:
        print_json(report)
    else:
        _print(report)


def _print(report: dict[str, Any]) -> None:
    print_line(f"{report['metric']}, lower is better")
    for name in ("run", "against"):
        if name not in report:
            continue
        row = report[name]
        line = f"{name:<9}n = {row['n']}   mean {row['mean']:.6f}"
        if row["sd"] is not None:
            line += f"   sd {row['sd']:.6f}   95 % {row['low']:.6f} to {row['high']:.6f}"
        print_line(line + ("" if row["official"] else "   (not the official validation set)"))
        print_notes(row["notes"], f"note: {name}: ")
    if "comparison" in report:
        found = report["comparison"]
        better, rule = found["better"], found["rule"]
        print_line(f"gain     {found['gain']:+.6f}   p = {better['p']:.2g} that there is none")
        verdict = "passes" if rule["passes"] else "does not pass"
        if not rule["applies"]:
            verdict = f"would {'pass' if rule['passes'] else 'not pass'} on this part of the data"
        print_line(
            f"rule     {verdict}: p = {rule['p']:.2g} for a gain of at most "
            f"{rule['margin']:.6f} (Welch, t = {rule['t']:.2f}, df = {rule['df']:.1f})"
        )
