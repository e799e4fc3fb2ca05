"""`squeeze pack`: checkpoint → `.sqz`, verified, with its place in the limit."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from squeeze.cli.options import (
    architecture_options,
    json_option,
    limit_option,
    stage_bars,
)
from squeeze.cli.plan_view import print_packed, summary_of
from squeeze.cli.terminal.printing import print_json, print_line, print_notes
from squeeze.packing.presets import RECORDS, TARGETS

if TYPE_CHECKING:
    from squeeze.checkpoint.read import LoadedModel
    from squeeze.packing.request import PackRequest

SOURCES = ["self", "shards", "random"]
OFFERED = [*TARGETS, *RECORDS]


def _pairs(ctx: click.Context, param: click.Parameter, values: tuple[str, ...]) -> dict[str, str]:
    pairs = dict(value.partition("=")[::2] for value in values)
    for key, text in pairs.items():
        if not key or not text:
            raise click.BadParameter(f"{key}={text}: expected ROLE=SPEC such as mlp=6:12.85")
    return pairs


@click.command("pack")
@click.argument("model", type=click.Path())
@click.option("-o", "--out", type=click.Path(path_type=Path), help="Artifact [MODEL with .sqz].")
@limit_option
@click.option("--code", multiple=True, type=click.Path(), help="File or folder that ships with it.")
@click.option(
    "--preset",
    type=click.Choice(OFFERED),
    metavar="NAME",
    help=f"{', '.join(OFFERED)}.",
)
@click.option(
    "--calibration",
    type=click.Choice(SOURCES),
    default="self",
    metavar="TEXT",
    help="self (written by the model), shards or random.",
)
@click.option("--data", multiple=True, type=click.Path(), help="Shards, for --calibration shards.")
@click.option(
    "--tokens",
    type=click.IntRange(min=1),
    metavar="N",
    help="Calibration tokens [131072; large: 32768].",
)
@click.option(
    "--seed", type=click.IntRange(min=0), default=0, metavar="N", help="Of calibration text [0]."
)
@click.option("--fresh", is_flag=True, help="Start over, whatever OUT.cache holds.")
@click.option("--tokenizer", type=click.Path(), help="Gives costs per byte, not per token.")
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
    type=int,
    default=65_536,
    metavar="N",
    help="Tensors of up to N weights stay floats [65536].",
)
@click.option(
    "--small-floats",
    type=click.Choice(["fp16", "bf16", "fp32", "keep"]),
    default="fp16",
    metavar="FORMAT",
    help="fp16, bf16, fp32 or keep [fp16].",
)
@click.option("--lossless", is_flag=True, help="Store every tensor exactly as it is.")
@click.option("--codecs", default="", metavar="NAME,…", help="Try these on every stream; or all.")
@architecture_options
@json_option
def command(
    model: str, out: Path | None, architecture: dict[str, Any], as_json: bool, **options: Any
) -> None:
    """Pack MODEL (safetensors, .pt or int8 .ptz) into a .sqz artifact.

    Preset fast or best: calibrate, spend bits where they lower the loss most, land just under the
    limit; resumes from OUT.cache. A record's: as that entry did (record-1855 without low-rank
    correction, ternary with one step a row). None: as --quant says. Exits with 3 over the limit.

    \b
    Example:
      squeeze pack model.safetensors -o model.sqz --preset best --code train_gpt.py
    """
    from squeeze.checkpoint.read import load_model
    from squeeze.files import check_output_folder, check_outputs, output_beside
    from squeeze.ledger.attribute import attribute_paths
    from squeeze.ledger.gate import check_limit
    from squeeze.packing.pack import pack_model
    from squeeze.packing.request import Watch
    from squeeze.views.text import print_ledger

    if bool(options["lossless"]) + bool(options["preset"]) + bool(options["quant"]) > 1:
        raise click.UsageError("--quant, --lossless and --preset exclude one another")
    first = int(os.environ.get("RANK", "0")) == 0
    if not first and not options["preset"]:
        return  # nothing to share: the first rank does it
    target = out or output_beside(model, ".sqz")
    check_outputs([target], [model, options["tokenizer"], *options["code"], *options["data"]])
    clock = time.perf_counter()
    request = _request(target, **options)
    if request.calibration is not None:
        check_output_folder(request.cache)
    loaded = load_model(model, **architecture)

    def show_trial(scale: float, size: int) -> None:
        if not as_json:
            print_line(f"scale {scale:.3g}: {size:,} bytes of {request.room:,}", err=True)

    with stage_bars(quiet=as_json or not first) as on_stage:
        packed = pack_model(loaded, request, Watch(on_stage, show_trial))
    if not first:
        return
    packed.save(target)
    summary = {
        "artifact": str(target),
        "source": _source(model, loaded),
        **summary_of(packed, request.preset),
        "notes": list(packed.notes),
        "seconds": round(time.perf_counter() - clock, 3),
    }
    ledger = attribute_paths([target, *request.code])
    if as_json:
        print_json(summary | {"ledger": ledger.as_json(request.limit)})
    else:
        print_notes(packed.notes)
        print_packed(packed, request.preset)
        print_ledger(ledger, request.limit)
        print_line(f"{target}: {loaded.size:,} → {len(packed.data):,} bytes")
    check_limit(ledger.total, request.limit)


def _request(
    target: Path,
    *,
    preset: str | None,
    lossless: bool,
    tokenizer: str | None,
    codecs: str,
    **options: Any,
) -> PackRequest:
    """Return what the options ask for; those without a line of their own keep their name."""
    from squeeze.packing.request import PackRequest
    from squeeze.score.tokenizer import Tokenizer

    text = {name: options.pop(name) for name in ("calibration", "data", "tokens", "seed")}
    calibration = None
    if preset:
        from squeeze.packing.calibrate import Calibration

        calibration = Calibration(
            text["calibration"], text["tokens"] or 0, seed=text["seed"], data=text["data"]
        )
    return PackRequest(
        preset=preset or ("lossless" if lossless else "round"),
        calibration=calibration,
        codecs=tuple(codecs.split(",")) if codecs else (),
        bytes_of=Tokenizer(tokenizer).table.of_targets if tokenizer else None,
        cache=target.with_name(target.name + ".cache"),
        **options,
    )


def _source(path: str, loaded: LoadedModel) -> dict[str, Any]:
    return {
        "path": path,
        "format": loaded.source,
        "sha256": loaded.sha256,
        "bytes": loaded.size,
    }
