"""`squeeze pack`: checkpoint → `.sqz`, verified, with its place in the limit."""

from __future__ import annotations

import time
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

if TYPE_CHECKING:
    from squeeze.checkpoint import Checkpoint
    from squeeze.target import Packed

SOURCES = ["self", "shards", "random"]


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
@click.option("--preset", type=click.Choice(["fast", "best"]), help="Fill the limit at least loss.")
@click.option(
    "--calibration",
    type=click.Choice(SOURCES),
    default="self",
    help="Calibration text: self-written, shards or chance [self].",
)
@click.option("--data", multiple=True, type=click.Path(), help="Shards, for --calibration shards.")
@click.option(
    "--tokens", type=click.IntRange(min=1), default=131_072, help="Calibration tokens [131072]."
)
@click.option("--seed", type=click.IntRange(min=0), default=0, help="Of the calibration text [0].")
@click.option("--fresh", is_flag=True, help="Calibrate again, whatever OUT.cache holds.")
@click.option("--quant", multiple=True, callback=_pairs, metavar="ROLE=SPEC",
              help="BITS, BITS:K (clip at K σ), fp32, fp16, bf16 or keep for all, embed, attn, mlp, "
              "attn.q, mlp.fc, … [embed=8:20, others 6:12.85].")  # fmt: skip
@click.option("--small", type=int, default=65_536, help="Up to this many elements: floats [65536].")
@click.option("--small-floats", type=click.Choice(["fp16", "bf16", "fp32", "keep"]),
              default="fp16", help="Their format [fp16].")  # fmt: skip
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
    tokens: int,
    seed: int,
    fresh: bool,
    quant: dict[str, str],
    small: int,
    small_floats: str,
    lossless: bool,
    codecs: str,
    architecture: dict[str, Any],
    as_json: bool,
) -> None:
    """Pack MODEL (safetensors, .pt or the challenge's int8 .ptz) into a .sqz artifact.

    With --preset: calibrate, spend bits where the loss feels them, land just under the limit. Without:
    round to nearest as --quant says (a .ptz is kept without loss), and exit with 3 when over.

    \b
    Example:
      squeeze pack model.safetensors -o model.sqz --preset best --code train_gpt.py
    """
    from squeeze import budget
    from squeeze.checkpoint import load_checkpoint
    from squeeze.cli.budget_cmd import check_limit, print_ledger

    if (lossless or preset) and quant:
        raise click.UsageError("--quant excludes --lossless and --preset")
    target = out or Path(model).with_suffix(".sqz")
    clock = time.perf_counter()
    source = load_checkpoint(model)
    summary: dict[str, Any] = {
        "artifact": str(target),
        "source": {"path": model, "format": source.format, "sha256": source.sha256,
                   "bytes": source.size},
    }  # fmt: skip
    if preset:
        from squeeze.calibrate import Calibration

        room = limit - (budget.ledger(code).total if code else 0)
        settings = Calibration(calibration, tokens, seed=seed, data=data)
        packed, notes = _to_target(
            source,
            model,
            target,
            room,
            preset,
            settings,
            small_floats,
            architecture,
            fresh,
            as_json,
        )
        summary["fit"] = _fit_summary(packed)
    else:
        notes = _round(
            source, target, quant, small, small_floats, lossless, codecs, architecture, as_json
        )
    summary |= {"notes": notes, "seconds": round(time.perf_counter() - clock, 3)}
    result = budget.ledger([target, *code])
    if as_json:
        print_json(summary | {"ledger": result.as_json(limit)})
    else:
        for note in notes:
            click.echo(f"note: {note}", err=True)
        if preset:
            _print_plan(packed, summary["fit"])
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
    from squeeze import artifact
    from squeeze import codecs as registry
    from squeeze.calib.quantized import QuantizedTensor
    from squeeze.infer import complete_config
    from squeeze.pack import LOSSLESS, Recipe, parse_precisions, quantize_checkpoint

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
        artifact.save(packed, target, candidates=candidates, on_stream=update)
    return source.notes + notes


def _to_target(
    source: Checkpoint,
    model: str,
    target: Path,
    limit: int,
    preset: str,
    settings: Any,
    small_floats: str,
    architecture: dict[str, Any],
    fresh: bool,
    quiet: bool,
) -> tuple[Packed, list[str]]:
    """Calibrate, fit, check by decoding, write; returns what was packed and the notes on reading."""
    from squeeze import artifact
    from squeeze.checkpoint import load_model
    from squeeze.files import write_atomic
    from squeeze.target import pack_to_target

    loaded = load_model(model, **architecture)
    folder = target.with_name(target.name + ".cache")

    def on_trial(scale: float, size: int) -> None:
        if not quiet:
            click.echo(f"scale {scale:.3g}: {size:,} bytes of {limit:,}", err=True)

    with stage_bars(quiet) as on_stage:
        packed = pack_to_target(
            source,
            loaded,
            limit,
            preset,
            settings,
            folder,
            small_floats=small_floats,
            fresh=fresh,
            on_stage=on_stage,
            on_trial=on_trial,
        )
    artifact.decode(packed.data)  # compares the content digest
    write_atomic(target, packed.data)
    return packed, loaded.notes


def _fit_summary(packed: Packed) -> dict[str, Any]:
    fitted = packed.fitted
    return {
        "lossless": fitted is None,
        "expected_nats_per_token": packed.expected,
        "measured_kl_nats_per_token": packed.measured,
        "trials": 0 if fitted is None else fitted.allocation.trials,
        "expected_by_tensor": {} if fitted is None else fitted.losses,
    }


def _print_plan(packed: Packed, summary: dict[str, Any]) -> None:
    if summary["lossless"]:
        click.echo("everything fits without loss")
        return
    assert packed.fitted is not None
    click.echo(f"{'tensor':<34}{'weights':>10}{'expected nats/token':>22}")
    for name, loss in summary["expected_by_tensor"].items():
        size = packed.fitted.artifact.tensors[name].shape
        click.echo(f"{name:<34}{size[0] * size[1]:>10,}{loss:>22.6f}")
    click.echo(
        f"cost in nats per token: expected {packed.expected:.6f}, measured {packed.measured:.6f} "
        f"(KL on calibration text), {summary['trials']} trials"
    )
