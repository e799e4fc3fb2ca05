"""`squeeze pack`: checkpoint → `.sqz`, verified, with its place in the limit."""

from __future__ import annotations

import os
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from squeeze.cli.options import (
    architecture_options,
    json_option,
    limit_option,
    print_json,
    progress,
    stage_bars,
)
from squeeze.cli.plan_view import print_packed, summary_of

if TYPE_CHECKING:
    from squeeze.checkpoint.read import Checkpoint, LoadedModel
    from squeeze.packing.calibrate import Calibration
    from squeeze.packing.record import Recorded
    from squeeze.packing.target import Packed

SOURCES = ["self", "shards", "random"]
OURS = ("fast", "best")  # keys of squeeze.packing.target.PRESETS, which imports torch
RECORDS = ("baseline-int8-zlib", "record-374", "record-1394", "record-1855", "ternary")


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
@click.option("--preset", type=click.Choice([*OURS, *RECORDS]), metavar="NAME",
              help="fast, best, record-374, record-1394, record-1855, ternary or "
              "baseline-int8-zlib.")  # fmt: skip
@click.option("--calibration", type=click.Choice(SOURCES), default="self", metavar="TEXT",
              help="self (written by the model), shards or random.")  # fmt: skip
@click.option("--data", multiple=True, type=click.Path(), help="Shards, for --calibration shards.")
@click.option("--tokens", type=click.IntRange(min=1), metavar="N",
              help="Of calibration [131072; large: 32768].")  # fmt: skip
@click.option(
    "--seed", type=click.IntRange(min=0), default=0, metavar="N", help="Of that text [0]."
)
@click.option("--fresh", is_flag=True, help="Start over, whatever OUT.cache holds.")
@click.option("--tokenizer", type=click.Path(), help="Gives costs per byte, not per token.")
@click.option("--quant", multiple=True, callback=_pairs, metavar="ROLE=SPEC",
              help="BITS, BITS:K (K σ clip), fp16 … or keep; ROLE: all, attn, mlp.fc, … "
              "[embed=8:20, others 6:12.85].")  # fmt: skip
@click.option("--small", type=int, default=65_536, metavar="N",
              help="Of up to N weights: floats [65536].")  # fmt: skip
@click.option("--small-floats", type=click.Choice(["fp16", "bf16", "fp32", "keep"]),
              default="fp16", metavar="FORMAT", help="fp16, bf16, fp32 or keep [fp16].")  # fmt: skip
@click.option("--lossless", is_flag=True, help="Store every tensor exactly as it is.")
@click.option("--codecs", default="", metavar="NAME,…", help="Try these on every stream; or all.")
@architecture_options
@json_option
def command(
    model: str,
    out: Path | None,
    limit: int,
    code: tuple[str, ...],
    preset: str | None,
    calibration: str,
    data: tuple[str, ...],
    tokens: int | None,
    seed: int,
    fresh: bool,
    tokenizer: str | None,
    quant: dict[str, str],
    small: int,
    small_floats: str,
    lossless: bool,
    codecs: str,
    architecture: dict[str, Any],
    as_json: bool,
) -> None:
    """Pack MODEL (safetensors, .pt or int8 .ptz) into a .sqz artifact.

    Preset fast or best: calibrate, spend bits where the loss feels them, land just under the limit;
    OUT.cache keeps every stage, so that a killed pack goes on. A record's: as that entry did
    (record-1855 without low-rank correction, ternary with one step a row). None: round to nearest as
    --quant says (a .ptz is kept). Exits with 3 when over the limit.

    \b
    Example:
      squeeze pack model.safetensors -o model.sqz --preset best --code train_gpt.py
    """
    from squeeze.checkpoint.read import load_checkpoint
    from squeeze.errors import OverBudget
    from squeeze.ledger.attribute import attribute_paths
    from squeeze.ledger.gate import check_limit
    from squeeze.views.text import print_ledger

    if bool(lossless) + bool(preset) + bool(quant) > 1:
        raise click.UsageError("--quant, --lossless and --preset exclude one another")
    if preset not in OURS and int(os.environ.get("RANK", "0")):
        return  # nothing to share: the first rank does it
    target = out or Path(model).with_suffix(".sqz")
    clock = time.perf_counter()
    source = load_checkpoint(model)
    summary: dict[str, Any] = {
        "artifact": str(target),
        "source": {"path": model, "format": source.format, "sha256": source.sha256,
                   "bytes": source.size},
    }  # fmt: skip
    packed: Packed | Recorded | None = None
    if preset:
        from squeeze.checkpoint.read import load_model
        from squeeze.packing.calibrate import Calibration, default_tokens

        loaded = load_model(model, **architecture)
        settings = Calibration(
            calibration, tokens or default_tokens(loaded.config.num_params), seed=seed, data=data
        )
        room = limit - (attribute_paths(code).total if code else 0)
        if preset in OURS and room <= 0:
            raise OverBudget("the code alone fills the limit", expected=f"< {limit:,} bytes",
                             found=f"{limit - room:,} bytes")  # fmt: skip
        run = (
            partial(_to_target, limit=room) if preset in OURS else partial(_as_record, small=small)
        )
        notes = loaded.notes
        packed = run(source, loaded, target, preset=preset, settings=settings, floats=small_floats,
                     tokenizer=tokenizer, fresh=fresh, quiet=as_json, notes=notes)  # fmt: skip
        if packed is None:  # another rank writes
            return
        summary["fit" if preset in OURS else "record"] = summary_of(packed)
    else:
        notes = _round(
            source, target, quant, small, small_floats, lossless, codecs, architecture, as_json
        )
    summary |= {"notes": notes, "seconds": round(time.perf_counter() - clock, 3)}
    result = attribute_paths([target, *code])
    if as_json:
        print_json(summary | {"ledger": result.as_json(limit)})
    else:
        for note in notes:
            click.echo(f"note: {note}", err=True)
        if packed is not None:
            print_packed(packed)
        print_ledger(result, limit)
        click.echo(f"{target}: {source.size:,} → {target.stat().st_size:,} bytes")
    check_limit(result.total, limit)


def _round(
    source: Checkpoint,
    target: Path,
    quant: dict[str, str],
    small: int,
    small_floats: str,
    lossless: bool,
    codecs: str,
    architecture: dict[str, Any],
    quiet: bool,
) -> list[str]:
    """Round to nearest (or keep everything) and write; returns the notes on reading."""
    from squeeze import codecs as registry
    from squeeze.artifact.file import save
    from squeeze.checkpoint.infer import complete_config
    from squeeze.packing.recipe import LOSSLESS, Recipe, parse_precisions, quantize_checkpoint
    from squeeze.tensors.quantized import QuantizedTensor

    quantized = any(isinstance(tensor, QuantizedTensor) for tensor in source.tensors.values())
    exact = lossless or (quantized and not quant)
    recipe = LOSSLESS if exact else Recipe(parse_precisions(quant), small, small_floats)
    candidates = None
    if codecs:
        candidates = registry.names() if codecs == "all" else tuple(codecs.split(","))
    shapes = {name: tensor.shape for name, tensor in source.tensors.items()}
    config, notes = complete_config(shapes, source.config, **architecture)
    if exact and not lossless:
        notes.append("the checkpoint is quantized already: stored without loss (--quant to change)")
    packed = quantize_checkpoint(source.tensors, config, recipe)
    with progress("coding streams", quiet) as update:
        save(packed, target, candidates=candidates, on_stream=update)
    return source.notes + notes


def _to_target(
    source: Checkpoint,
    loaded: LoadedModel,
    target: Path,
    *,
    limit: int,
    preset: str,
    settings: Calibration,
    floats: str,
    tokenizer: str | None,
    fresh: bool,
    quiet: bool,
    notes: list[str],
) -> Packed | None:
    """Calibrate, fit, check by decoding, write. None on ranks other than the first."""
    import torch

    from squeeze.artifact.file import decode
    from squeeze.files import write_atomic
    from squeeze.packing.kept import locked
    from squeeze.packing.target import help_calibrate, pack_to_target
    from squeeze.ranks.connect import connected
    from squeeze.score.tokenizer import Tokenizer

    folder = _cache_of(target)
    table = Tokenizer(tokenizer).table if tokenizer else None

    def on_trial(scale: float, size: int) -> None:
        if not quiet:
            click.echo(f"scale {scale:.3g}: {size:,} bytes of {limit:,}", err=True)

    cpu = torch.device("cpu")  # where calibration runs
    with connected(cpu) as ranks, stage_bars(quiet or not ranks.first) as on_stage:
        if not ranks.first:
            help_calibrate(source, loaded, limit, settings, folder, fresh=fresh)
            return None
        with locked(folder):
            packed = pack_to_target(
                source,
                loaded,
                limit,
                preset,
                settings,
                folder,
                small_floats=floats,
                fresh=fresh,
                bytes_of=table.of_targets if table else None,
                on_stage=on_stage,
                on_trial=on_trial,
                on_note=notes.append,
            )
            decode(packed.data)  # compares the content digest
            write_atomic(target, packed.data)
    return packed


def _as_record(
    source: Checkpoint,
    loaded: LoadedModel,
    target: Path,
    *,
    small: int,
    preset: str,
    settings: Calibration,
    floats: str,
    tokenizer: str | None,
    fresh: bool,
    quiet: bool,
    notes: list[str],
) -> Recorded:
    """Quantize and code as a record entry did, check by decoding, write."""
    from squeeze.artifact.file import decode
    from squeeze.files import write_atomic
    from squeeze.packing.kept import locked
    from squeeze.packing.record import pack_record

    folder = _cache_of(target)
    with locked(folder), stage_bars(quiet) as on_stage:
        packed = pack_record(
            source,
            loaded,
            preset,
            settings,
            folder,
            small=small,
            small_floats=floats,
            fresh=fresh,
            on_stage=on_stage,
            on_note=notes.append,
        )
        decode(packed.data)
        write_atomic(target, packed.data)
    return packed


def _cache_of(target: Path) -> Path:
    return target.with_name(target.name + ".cache")
