"""`squeeze pack`: checkpoint → `.sqz`, verified, with its place in the limit."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import click

from squeeze.cli.options import (
    architecture_options,
    json_option,
    limit_option,
    print_json,
    progress,
)


def _pairs(ctx: click.Context, param: click.Parameter, values: tuple[str, ...]) -> dict[str, str]:
    pairs = dict(value.partition("=")[::2] for value in values)
    for key, text in pairs.items():
        if not key or not text:
            raise click.BadParameter(f"{key}={text}: expected ROLE=SPEC such as mlp=6:12.85")
    return pairs


@click.command("pack")
@click.argument("model", type=click.Path())
@click.option("-o", "--out", type=click.Path(), help="Artifact to write [MODEL with .sqz].")
@click.option(
    "--quant",
    multiple=True,
    callback=_pairs,
    metavar="ROLE=SPEC",
    help="BITS, BITS:K (clip at K σ) or fp32, fp16, bf16, keep for a role: "
    "all, embed, attn, mlp, attn.q, mlp.fc, … [embed=8:20, others 6:12.85].",
)
@click.option(
    "--small",
    type=int,
    default=65_536,
    show_default=True,
    help="Tensors of at most this many elements stay floats.",
)
@click.option("--small-floats", type=click.Choice(["fp16", "bf16", "fp32", "keep"]), default="fp16",
              show_default=True, help="Float format of small tensors.")  # fmt: skip
@click.option("--lossless", is_flag=True, help="Store every tensor exactly as it is.")
@click.option(
    "--code", multiple=True, type=click.Path(), help="Files or folders that ship with it."
)
@click.option("--codecs", default="", metavar="NAME,…", help="Try these on every stream; or all.")
@limit_option
@architecture_options
@json_option
def command(
    model: str,
    out: str | None,
    quant: dict[str, str],
    small: int,
    small_floats: str,
    lossless: bool,
    code: tuple[str, ...],
    codecs: str,
    limit: int,
    architecture: dict[str, Any],
    as_json: bool,
) -> None:
    """Pack MODEL into a .sqz artifact: quantize, entropy-code, decode again, compare, write.

    MODEL is a safetensors file, a torch .pt, or the challenge's int8 .ptz, whose codes are kept as
    they are. The artifact is written even when it is over the limit; the exit code is then 3.

    \b
    Example:
      squeeze pack model.safetensors -o model.sqz --quant mlp=6:11.5 --limit 16000000
    """
    from squeeze import artifact, budget
    from squeeze import codecs as registry
    from squeeze.checkpoint import load_checkpoint
    from squeeze.cli.budget_cmd import check_limit, print_ledger
    from squeeze.infer import complete_config
    from squeeze.pack import LOSSLESS, Recipe, parse_precisions, quantize_checkpoint

    if lossless and quant:
        raise click.UsageError("--lossless and --quant exclude each other")
    target = out or str(Path(model).with_suffix(".sqz"))
    recipe = LOSSLESS if lossless else Recipe(parse_precisions(quant), small, small_floats)
    candidates = None
    if codecs:
        candidates = registry.names() if codecs == "all" else tuple(codecs.split(","))

    seconds = {}
    clock = time.perf_counter()
    source = load_checkpoint(model)
    shapes = {name: tensor.shape for name, tensor in source.tensors.items()}
    config, notes = complete_config(shapes, source.config, **architecture)
    seconds["read"] = time.perf_counter() - clock
    clock = time.perf_counter()
    packed = quantize_checkpoint(source.tensors, config, recipe)
    seconds["quantize"] = time.perf_counter() - clock
    clock = time.perf_counter()
    with progress("coding streams", as_json) as update:
        artifact.save(packed, target, candidates=candidates, on_stream=update)
    seconds["code and verify"] = time.perf_counter() - clock

    result = budget.ledger([target, *code])
    if as_json:
        summary = {
            "artifact": target,
            "source": {"path": model, "format": source.format, "sha256": source.sha256,
                       "bytes": source.size},
            "config": packed.config,
            "notes": source.notes + notes,
            "seconds": seconds,
        }  # fmt: skip
        print_json(summary | {"ledger": result.as_json(limit)})
    else:
        for note in source.notes + notes:
            click.echo(f"note: {note}", err=True)
        print_ledger(result, limit)
        click.echo(f"{target}: {source.size:,} → {result.files[Path(target).name]:,} bytes")
    check_limit(result.total, limit)
