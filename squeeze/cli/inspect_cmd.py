"""`squeeze inspect`: what a checkpoint or artifact is and holds."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from squeeze.cli.options import architecture_options, json_option
from squeeze.cli.terminal.printing import print_json, print_line, print_notes

if TYPE_CHECKING:
    from squeeze.train.optim.recipe import Recipe


@click.command("inspect")
@click.argument("models", type=click.Path(), nargs=-1, required=True, metavar="MODEL [OTHER]")
@architecture_options
@json_option
def command(models: tuple[str, ...], architecture: dict[str, Any], as_json: bool) -> None:
    """Show the format, configuration and tensors of MODEL (checkpoint or artifact).

    With OTHER: only the settings of model and training recipe in which the two differ.

    \b
    Example:
      squeeze inspect final_model.int8.ptz
      squeeze inspect first.safetensors second.safetensors
    """
    if len(models) > 2:
        raise click.UsageError("Give one model, or two to compare.")
    if len(models) == 2:
        _compare(models[0], models[1], architecture, as_json)
        return
    model = models[0]

    from squeeze.checkpoint.read import load_model
    from squeeze.tensors.quantized import RawTensor
    from squeeze.tensors.roles import natural_key, role_of

    loaded = load_model(model, **architecture)
    config = loaded.config
    recipe = _recipe(model)
    rows = []
    for name in sorted(loaded.stored, key=natural_key):  # files of safetensors have any order
        tensor = loaded.stored[name]
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
                "format": loaded.source,
                "bytes": loaded.size,
                "sha256": loaded.sha256,
                "parameters": config.num_params,
                "config": asdict(config),
                "recipe": None if recipe is None else asdict(recipe),
                "notes": loaded.notes,
                "tensors": rows,
            }
        )
        return
    print_line(f"{model}: {loaded.source}, {loaded.size:,} bytes, {config.num_params:,} parameters")
    print_line(f"sha256 {loaded.sha256}")
    print_line(f"model   {config.to_json()}")
    if recipe is not None:
        print_line(f"recipe  {recipe.to_json()}")
    print_notes(loaded.notes)
    _table(rows)


def _recipe(model: str) -> Recipe | None:
    """How a model was trained, where its file says so."""
    from squeeze.train.checkpoint import RECIPE_KEY, read_metadata
    from squeeze.train.optim.recipe import Recipe

    text = read_metadata(model).get(RECIPE_KEY)
    return None if text is None else Recipe.from_json(text)


def _compare(first: str, second: str, architecture: dict[str, Any], as_json: bool) -> None:
    from squeeze.checkpoint.read import load_model
    from squeeze.train.fields import changes

    configs = [load_model(path, **architecture).config for path in (first, second)]
    recipes = [_recipe(path) for path in (first, second)]
    differ = changes(*configs)
    unknown = [path for path, recipe in zip((first, second), recipes, strict=True) if not recipe]
    if not unknown:
        differ |= changes(*recipes)
    if as_json:
        print_json({"paths": [first, second], "differ": differ, "without_recipe": unknown})
        return
    for name, (before, after) in differ.items():
        print_line(f"{name:<20} {before} → {after}")
    if not differ:
        print_line("no setting differs")
    for path in unknown:
        print_line(f"note: {path} does not say how it was trained", err=True)


def _table(rows: list[dict[str, Any]]) -> None:
    from rich.table import Table

    from squeeze.views.console import PlainConsole

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
    PlainConsole().print(table)
