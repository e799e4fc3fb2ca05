"""`squeeze inspect`: what a checkpoint or artifact is and holds."""

from __future__ import annotations

import sys
from dataclasses import asdict
from typing import Any

import click

from squeeze.cli.options import architecture_options, json_option, print_json


@click.command("inspect")
@click.argument("model", type=click.Path())
@architecture_options
@json_option
def command(model: str, architecture: dict[str, Any], as_json: bool) -> None:
    """Show the format, configuration and tensors of MODEL (checkpoint or artifact).

    \b
    Example:
      squeeze inspect final_model.int8.ptz
    """
    from squeeze.calib.quantized import RawTensor
    from squeeze.checkpoint import load_checkpoint
    from squeeze.infer import complete_config
    from squeeze.roles import role_of

    source = load_checkpoint(model)
    shapes = {name: tensor.shape for name, tensor in source.tensors.items()}
    config, notes = complete_config(shapes, source.config, **architecture)
    rows = []
    for name, tensor in source.tensors.items():
        values = tensor.dequantize()
        codes = None if isinstance(tensor, RawTensor) else tensor.codes
        rows.append(
            {
                "tensor": name,
                "role": role_of(name),
                "shape": list(tensor.shape),
                "storage": tensor.stored if isinstance(tensor, RawTensor) else tensor.quantizer,
                "codes": None if codes is None else [int(codes.min()), int(codes.max())],
                "rms": float((values.astype("f8") ** 2).mean() ** 0.5),
                "max": float(abs(values).max()),
            }
        )
    if as_json:
        print_json(
            {
                "path": model,
                "format": source.format,
                "bytes": source.size,
                "sha256": source.sha256,
                "parameters": config.num_params,
                "config": asdict(config),
                "notes": source.notes + notes,
                "tensors": rows,
            }
        )
        return
    click.echo(f"{model}: {source.format}, {source.size:,} bytes, {config.num_params:,} parameters")
    click.echo(f"sha256 {source.sha256}")
    click.echo(config.to_json())
    for note in source.notes + notes:
        click.echo(f"note: {note}", err=True)
    _table(rows)


def _table(rows: list[dict[str, Any]]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("tensor", "shape", "storage", "codes"):
        table.add_column(title)
    for title in ("rms", "max"):
        table.add_column(title, justify="right")
    for row in rows:
        codes = "" if row["codes"] is None else f"{row['codes'][0]}…{row['codes'][1]}"
        shape = "×".join(map(str, row["shape"]))
        table.add_row(
            row["tensor"], shape, row["storage"], codes, f"{row['rms']:.4g}", f"{row['max']:.4g}"
        )
    Console(width=None if sys.stdout.isatty() else 100).print(table)
