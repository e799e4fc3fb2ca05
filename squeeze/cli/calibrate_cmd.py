"""`squeeze calibrate`: calibration text, Hessians and gradients, where `squeeze pack` finds them."""

from __future__ import annotations

import time
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import click

from squeeze.cli.options import architecture_options, json_option, stage_bars
from squeeze.cli.terminal.printing import print_json, print_line, print_notes


@click.command("calibrate")
@click.argument("model", type=click.Path())
@click.option(
    "-o", "--out", type=click.Path(path_type=Path), required=True, help="Folder to keep both in."
)
@click.option("--source", type=click.Choice(["self", "shards", "random"]), default="self",
              show_default=True, help="Text the model writes, real shards, or chance.")  # fmt: skip
@click.option("--data", multiple=True, type=click.Path(), help="Token shards, for --source shards.")
@click.option("--tokens", type=click.IntRange(min=1),
              help="[131072; 32768 of a model over 16M weights]")  # fmt: skip
@click.option(
    "--length", type=click.IntRange(min=0), default=0, help="Tokens per sequence [--seq-len]."
)
@click.option("--temperature", type=float, default=1.2, show_default=True)
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True)
@click.option("--fresh", is_flag=True, help="Ignore what the folder already holds.")
@architecture_options
@json_option
def command(
    model: str,
    out: Path,
    source: str,
    data: tuple[str, ...],
    tokens: int | None,
    length: int,
    temperature: float,
    seed: int,
    fresh: bool,
    architecture: dict[str, Any],
    as_json: bool,
) -> None:
    """Let MODEL write calibration text, and collect the Hessian of every matrix on it.

    What the folder holds for the same weights and settings is used again, and a killed run goes on;
    `squeeze pack -o model.sqz` with the same settings finds it in model.sqz.cache.
    Under torchrun the ranks share the work and the first one writes.

    \b
    Example:
      squeeze calibrate model.safetensors -o model.sqz.cache --tokens 131072
    """
    import torch

    from squeeze.checkpoint.read import load_model
    from squeeze.files import check_output_folder
    from squeeze.packing.calibrate import Calibration, calibrate
    from squeeze.packing.kept import locked
    from squeeze.ranks.connect import connected

    check_output_folder(out)
    loaded = load_model(model, **architecture)
    settings = Calibration(source, tokens or 0, length, seed, temperature, data)
    notes = loaded.notes
    clock = time.perf_counter()
    with (
        connected(torch.device("cpu")) as ranks,  # where calibration runs
        locked(out) if ranks.first else nullcontext(),
        stage_bars(as_json or not ranks.first) as on_stage,
    ):
        found = calibrate(
            loaded, settings, out, fresh=fresh, on_stage=on_stage, on_note=notes.append
        )
    if not ranks.first:
        return
    seconds = time.perf_counter() - clock
    text, hessians = found.text, found.hessians
    if as_json:
        print_json({"folder": str(out), "tokens": text.tokens, "sequences": len(text.lengths),
                    "source": text.source, "digest": text.digest(),
                    "hessians": {name: len(h) for name, h in hessians.matrices.items()},
                    "notes": notes, "seconds": seconds})  # fmt: skip
        return
    print_notes(notes)
    print_line(f"{out}: {text.tokens:,} {text.source} tokens in {len(text.lengths)} sequences, "
               f"{len(hessians.matrices)} Hessians, {seconds:.1f} s")  # fmt: skip
