"""Runs `squeeze demo`: prints the name and progress of each step, the ledger and the figures."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
from rich.table import Table

from squeeze.cli.bars import Bars
from squeeze.cli.runs.train_view import training_bar
from squeeze.cli.terminal.printing import print_json, print_line
from squeeze.demo import (
    CONFIG,
    Files,
    begin_training,
    make_data,
    pack_to_limit,
    save_trained,
    score,
)
from squeeze.files import check_output_folder
from squeeze.ledger.attribute import attribute_paths
from squeeze.views.console import PlainConsole
from squeeze.views.histograms import histograms_of
from squeeze.views.page import Report, write_page
from squeeze.views.plans import plan_of
from squeeze.views.text import print_ledger


@dataclass(frozen=True)
class DemoOptions:
    """Options of `squeeze demo`, each under its name."""

    seconds: float
    limit: int
    out: Path
    seed: int
    open_page: bool
    as_json: bool


def run_demo(options: DemoOptions) -> None:
    """Make the model and its report, and print the ledger and the figures."""
    check_output_folder(options.out)
    files = Files(options.out)
    figures = make_model(files, options)
    paths = [files.artifact]
    ledger = attribute_paths(paths)
    page = Report(ledger, options.limit, plan=plan_of(paths), histograms=histograms_of(paths))
    write_page(files.report, page)
    print_line(f"page: {files.report}", err=True)
    if options.as_json:
        print_json(figures | {"report": str(files.report)})
    else:
        print_ledger(ledger, options.limit)
        print_figures(figures, files)
    if options.open_page:
        click.launch(str(files.report))


def make_model(files: Files, options: DemoOptions) -> dict[str, Any]:
    """Train, pack and score the model, and return the figures of the last table."""
    limit, quiet = options.limit, options.as_json
    _say("text and tokenizer: documentation that ships with Python")
    sizes = make_data(files)
    _say(
        f"training {CONFIG.num_params:,} weights on {sizes.train:,} tokens "
        f"for {options.seconds:g} s"
    )
    training = begin_training(files, options.seconds, options.seed)
    with training_bar(quiet) as show:
        for step in training.steps():
            show(step)
    trained = save_trained(files, training)
    _say(f"packing to at most {limit:,} bytes")
    with Bars(quiet, limit) as bars:
        bits = pack_to_limit(files, limit, bars)
    _say(f"scoring {sizes.held_out:,} held-out tokens, each model in a fresh process")
    plain, packed = score(files.checkpoint, files), score(files.artifact, files)
    size = files.artifact.stat().st_size
    return {
        "fp32_bpb": plain["bpb"],
        "packed_bpb": packed["bpb"],
        "fp32_bytes": files.checkpoint.stat().st_size,
        "packed_bytes": size,
        "limit": limit,
        "unused_bytes": limit - size,
        "bits_per_weight": bits,
        "steps": trained.steps,
        "train_seconds": trained.seconds,
        "scored_bytes": packed["bytes"],
        "folder": str(files.folder),
    }


def print_figures(figures: dict[str, Any], files: Files) -> None:
    """Print the scores and sizes of both models, and the paths of all files."""
    table = Table(title="demo", title_justify="left", show_header=False, box=None, pad_edge=False)
    table.add_column()
    table.add_column(justify="right")
    cost = figures["packed_bpb"] - figures["fp32_bpb"]
    table.add_row("fp32 BPB", f"{figures['fp32_bpb']:.4f}")
    packed = f"{figures['packed_bpb']:.4f} ({cost:+.4f})"
    table.add_row(f"packed BPB (file: {figures['bits_per_weight']:.2f} bits a weight)", packed)
    table.add_row("fp32 bytes", f"{figures['fp32_bytes']:,}")
    table.add_row("packed bytes", f"{figures['packed_bytes']:,}")
    table.add_row("unused bytes", f"{figures['unused_bytes']:,} of {figures['limit']:,}")
    console = PlainConsole()
    console.print()
    console.print(table)
    names = "tokenizer.model, train.bin, held_out.bin, model.safetensors, model.sqz"
    console.print(f"files: {files.folder}/ {names}")
    # in one piece, however long the path is
    print_line(f"report: {files.report}")


def _say(text: str) -> None:
    """Print the name of the step that begins."""
    print_line(f"· {text}", err=True)
