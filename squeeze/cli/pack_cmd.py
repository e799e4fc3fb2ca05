"""`squeeze pack`: checkpoint → `.sqz`, verified, with its place in the limit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from squeeze.cli.options import (
    SEED,
    TEXT_SOURCES,
    Whole,
    architecture_options,
    json_option,
    limit_option,
    precision_option,
    script_options,
    verbose_option,
)
from squeeze.cli.parsing.command import Command
from squeeze.cli.parsing.values import Updates, Word, shards_option
from squeeze.packing.presets import RECORDS, TARGETS

OFFERED = [*TARGETS, *RECORDS]
OF_TEXT = ("calibration", "data", "tokens", "seed", "precision")  # options on calibration text


def _pairs(ctx: click.Context, param: click.Parameter, values: tuple[str, ...]) -> dict[str, str]:
    pairs = dict(value.partition("=")[::2] for value in values)
    for key, text in pairs.items():
        if not key or not text:
            raise click.BadParameter(f"{key}={text}: expected ROLE=SPEC such as mlp=6:12.85")
    return pairs


def _check_used(ctx: click.Context, options: dict[str, Any]) -> None:
    """Raise UsageError for an option of the command line that this way of packing takes nothing from."""
    preset, alone = options["preset"], options["lossless"] or options["squeezed"]
    unused = {
        "for the presets that calibrate": OF_TEXT if alone or options["quant"] else (),
        "for --quant and the presets of records": ("small",) if alone or preset in TARGETS else (),
        "for all but --lossless": ("small_floats",) if options["lossless"] else (),
    }
    for use, names in unused.items():
        for name in names:
            if ctx.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE:
                raise click.UsageError(f"--{name.replace('_', '-')} is {use}")


@click.command("pack", cls=Command)
@click.argument("model", type=click.Path())
@click.option(
    "-o", "--out", type=click.Path(path_type=Path), help="Artifact to write [MODEL with .sqz]."
)
@limit_option
@click.option(
    "--code", multiple=True, type=click.Path(), help="File or folder that ships beside it."
)
@click.option(
    "--preset",
    type=Word(OFFERED),
    metavar="NAME",
    help=f"{', '.join(OFFERED)}.",
)
@click.option(
    "--calibration",
    type=Word(TEXT_SOURCES),
    default="self",
    metavar="TEXT",
    help="self (written by the model), shards or random.",
)
@shards_option("--data", help="Shards, for --calibration shards.")
@click.option(
    "--tokens",
    type=Whole(min=1),
    metavar="N",
    help="Calibration tokens [131072; large: 32768].",
)
@click.option("--seed", type=SEED, default=0, metavar="N", help="Seed of the calibration text [0].")
@precision_option(hidden=True)
@click.option(
    "--tune",
    type=Updates(),
    metavar="N|TIME",
    help="Updates of tuned [2000; low rates 3000], or time: 10m.",
)
@click.option("--fresh", is_flag=True, help="Ignore what OUT.cache holds.")
@click.option("--tokenizer", type=click.Path(), help="Tokenizer for costs per byte of text.")
@click.option(
    "--frontier",
    type=click.Path(path_type=Path),
    metavar="PNG",
    help="Size against cost: picture, and a table.",
)
@click.option(
    "--quant",
    multiple=True,
    callback=_pairs,
    metavar="ROLE=SPEC",
    help="BITS, BITS:K (K σ clip), fp16 … or keep; ROLE: all, attn, mlp.fc, … "
    "[embed=8:20, 6:12.85; .ptz: keep].",
)
@click.option(
    "--small",
    type=Whole(min=0),
    default=65_536,
    metavar="N",
    help="Tensors of up to N weights stay floats [65536].",
)
@click.option(
    "--small-floats",
    type=Word(["fp16", "bf16", "fp32", "keep"]),
    default="fp16",
    metavar="FORMAT",
    help="Format of those: fp16, bf16, fp32 or keep [fp16].",
)
@click.option("--lossless", is_flag=True, help="Store every tensor exactly as it is.")
@click.option("--squeezed", is_flag=True, help="Fit any weights to the limit, without a model.")
@click.option("--codecs", default="", metavar="NAME,…", hidden=True)
@script_options
@architecture_options
@verbose_option
@json_option
def command(**options: Any) -> None:
    """Pack MODEL (safetensors, .pt or int8 .ptz) into a .sqz artifact.

    Presets fast, best and tuned (which trains) calibrate, spend bits where they lower the loss most
    and land under the limit; a record packs as its entry did. None: --quant; over the limit, best
    or --squeezed. Exits with 3 over it.

    \b
    Example:
      squeeze pack model.safetensors -o model.sqz --preset best --code train_gpt.py
    """
    from squeeze.cli.runs.pack import PackOptions, run_pack

    if sum(bool(options[name]) for name in ("lossless", "squeezed", "preset", "quant")) > 1:
        raise click.UsageError("--quant, --lossless, --squeezed and --preset exclude one another")
    _check_used(click.get_current_context(), options)
    if options["tune"] and options["preset"] != "tuned":
        raise click.UsageError("--tune is for --preset tuned")
    if options["frontier"] and options["preset"] not in TARGETS:
        raise click.UsageError(f"--frontier is for the presets {', '.join(TARGETS)}")
    run_pack(PackOptions(**options))
