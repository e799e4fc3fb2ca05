"""`squeeze demo`: the whole job in a few minutes, from nothing but a Python installation."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from squeeze.cli.options import SEED, json_option, stage_bars
from squeeze.cli.terminal.printing import print_json, print_line

if TYPE_CHECKING:
    from squeeze.demo import Files


@click.command("demo")
@click.option("--seconds", type=click.FloatRange(min=1), default=120, show_default=True,
              help="Training time.")  # fmt: skip
@click.option("--limit", type=click.IntRange(min=1), default=250_000, show_default=True,
              metavar="BYTES", help="Byte limit of the packed model.")  # fmt: skip
@click.option("--out", type=click.Path(path_type=Path), default="demo", show_default=True)
@click.option("--seed", type=SEED, default=0, show_default=True)
@click.option("--open", "open_page", is_flag=True, help="Open the report in a browser.")
@json_option
def command(
    seconds: float, limit: int, out: Path, seed: int, open_page: bool, as_json: bool
) -> None:
    """Train a small model, pack it to a limit, account for its bytes and score it.

    Needs no download: the text is the documentation that ships with Python.

    \b
    Example:
      squeeze demo --seconds 120 --limit 250000
    """
    from squeeze.cli.runs.train_view import training_bar
    from squeeze.demo import Files, run
    from squeeze.files import check_output_folder
    from squeeze.ledger.attribute import attribute_paths
    from squeeze.packing.plan import plan_of
    from squeeze.views.histograms import histograms_of
    from squeeze.views.page import Report, write_page
    from squeeze.views.text import print_ledger

    check_output_folder(out)

    def say(text: str) -> None:
        print_line(f"· {text}", err=True)

    with stage_bars(quiet=as_json) as on_stage:
        figures = run(out, seconds, limit, seed, say, partial(training_bar, as_json), on_stage)
    files = Files(out)
    paths = [files.artifact]
    ledger = attribute_paths(paths)
    report = Report(ledger, limit, plan=plan_of(paths), histograms=histograms_of(paths))
    write_page(files.report, report)
    print_line(f"page: {files.report}", err=True)
    if as_json:
        print_json(figures | {"report": str(files.report)})
    else:
        print_ledger(ledger, limit)
        _summary(figures, files)
    if open_page:
        click.launch(str(files.report))


def _summary(figures: dict[str, Any], files: Files) -> None:
    from rich.table import Table

    from squeeze.views.console import PlainConsole

    table = Table(title="demo", title_justify="left", show_header=False, box=None, pad_edge=False)
    table.add_column()
    table.add_column(justify="right")
    cost = figures["packed_bpb"] - figures["fp32_bpb"]
    table.add_row("fp32 BPB", f"{figures['fp32_bpb']:.4f}")
    packed = f"{figures['packed_bpb']:.4f} ({cost:+.4f})"
    table.add_row(f"packed BPB ({figures['bits_per_weight']:.2f} bits/weight)", packed)
    table.add_row("fp32 bytes", f"{figures['fp32_bytes']:,}")
    table.add_row("packed bytes", f"{figures['packed_bytes']:,}")
    table.add_row("unused bytes", f"{figures['unused_bytes']:,} of {figures['limit']:,}")
    console = PlainConsole()
    console.print()
    console.print(table)
    names = "tokenizer.model, train.bin, held_out.bin, model.safetensors, model.sqz"
    console.print(f"files: {files.folder}/ {names}")
    print_line(f"report: {files.report}")  # in one piece, however long the path is
