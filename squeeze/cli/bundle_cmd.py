"""`squeeze bundle`: an entry script and the modules it uses → one small file that runs."""

from __future__ import annotations

import ast
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from squeeze.cli.options import json_option
from squeeze.cli.terminal.printing import print_json, print_line, print_notes
from squeeze.errors import printable

if TYPE_CHECKING:
    from squeeze.bundle.build import Bundle

FORMS = ("auto", "literal", "archive", "plain")
SHOWN = 12  # rows of the table


def _constants(ctx: click.Context, param: click.Parameter, values: tuple[str, ...]) -> Any:
    constants: dict[str, object] = {}
    for text in values:
        name, equals, value = text.partition("=")
        if not all(part.isidentifier() for part in name.split(".", 1)) or not equals:
            raise click.BadParameter(f"{text}: expected NAME=VALUE such as DEBUG=False")
        try:
            constants[name] = ast.literal_eval(value)
        except (ValueError, SyntaxError):
            raise click.BadParameter(f"{value} is not a Python literal") from None
    return constants


@click.command("bundle")
@click.argument("entry", type=click.Path(path_type=Path), required=False)
@click.option("--preset", help="No ENTRY: our own script, which trains and packs this preset.")
@click.option("--set", "settings", multiple=True, metavar="NAME=VALUE", help="Change the preset.")
@click.option("-o", "--out", type=click.Path(path_type=Path), help="File [ENTRY.bundle.py].")
@click.option("--package", "packages", multiple=True, help="Installed package to take in.")
@click.option("--keep", multiple=True, metavar="NAME", help="Keep and do not rename; repeatable.")
@click.option(
    "--define",
    "constants",
    multiple=True,
    callback=_constants,
    metavar="FLAG=VALUE",
    help="Value of a flag or of CLASS.FIELD; branches it rules out go.",
)
@click.option(
    "--coder",
    "coders",
    default="zlib,lzma",
    show_default=True,
    metavar="NAME,…",
    help="Tried: zlib, lzma (part of Python), brotli, zstd, mixed (needs numba).",
)
@click.option("--form", type=click.Choice(FORMS), default="auto", help="Of the file [smallest].")
@click.option(
    "--readable", type=click.Path(path_type=Path), help="Also write the flat source here."
)
@click.option("--no-minify", is_flag=True, help="Compress the flat source as it is.")
@click.option("--rename-classes", is_flag=True, help="Also rename classes whose names may show.")
@click.option("--terse-errors", is_flag=True, help="Drop the texts of exceptions.")
@click.option(
    "--no-checks", is_flag=True, help="Drop what only raises: for inputs known to be good."
)
@click.option(
    "--specialise",
    "specialised",
    is_flag=True,
    help="Drop statements without effects and names nobody reads.",
)
@json_option
def command(
    entry: Path | None,
    preset: str | None,
    settings: tuple[str, ...],
    out: Path | None,
    packages: tuple[str, ...],
    keep: tuple[str, ...],
    constants: dict[str, object],
    coders: str,
    form: str,
    readable: Path | None,
    no_minify: bool,
    rename_classes: bool,
    terse_errors: bool,
    no_checks: bool,
    specialised: bool,
    as_json: bool,
) -> None:
    """Make ENTRY and the local modules it uses one file, as small as it goes, that runs.

    Modules beside ENTRY are taken in, and --package names others. What the program cannot reach is
    dropped, the rest is minified, compressed, and put into a file that restores itself.

    \b
    Example:
      squeeze bundle train.py --package mylib -o train_gpt.py --readable train_gpt.flat.py
      squeeze bundle --preset record-1493 -o train_gpt.py
    """
    from squeeze.bundle.build import BOTH, BundleOptions, bundle
    from squeeze.bundle.specialise import ShrinkOptions
    from squeeze.files import write_atomic

    if (entry is None) == (preset is None) or (settings and preset is None):
        raise click.UsageError("give ENTRY, or --preset with any --set")
    if preset is not None:
        source, target = "submit/entry.py", out or Path("train_gpt.py")
        result = _own(preset, settings)
    elif entry is not None:
        source, target = entry.name, out or entry.with_suffix(".bundle.py")
        if target.resolve() == entry.resolve():
            raise click.UsageError("--out is the entry script itself")
        options = BundleOptions(
            keep,
            constants={name: value for name, value in constants.items() if "." not in name},
            coders=tuple(coders.split(",")),
            forms=BOTH if form == "auto" else (form,),
            minified=not no_minify,
            rename_classes=rename_classes,
            shrink=ShrinkOptions(
                terse_errors,
                checks=not no_checks,
                specialise=specialised,
                fields={name: value for name, value in constants.items() if "." in name},
            ),
        )
        result = bundle(entry, packages, options)
    write_atomic(target, result.shipped.data)
    if readable is not None:
        head = f"# Generated from {printable(source)} by squeeze bundle: read it, do not edit it.\n"
        write_atomic(readable, (head + result.readable).encode())
    print_notes(result.warnings, "warning: ")
    if as_json:
        print_json(report(result, target))
    else:
        _print(result, target)


def _own(preset: str, settings: tuple[str, ...]) -> Bundle:
    """Return our own script for a preset, as `squeeze submit` would ship it."""
    from squeeze.score.modes import Mode
    from squeeze.submit.script import own_script
    from squeeze.train.presets import find_preset

    chosen = find_preset(preset).with_settings(settings)
    return own_script(asdict(chosen.model), asdict(chosen.recipe), 16_000_000, Mode())


def report(result: Bundle, target: Path) -> dict[str, Any]:
    """Return the bundle as plain values; `parts` sum to `bytes`, which depend on the minifier."""
    from importlib.metadata import version

    minified = result.minified != result.readable
    return {
        "file": str(target),
        "bytes": len(result.shipped.data),
        "form": result.shipped.form,
        "coder": result.shipped.coder,
        "requires": result.shipped.requires,
        "python": result.python,
        "minifier": f"python_minifier {version('python_minifier')}" if minified else None,
        "source_bytes": result.raw_bytes,
        "flat_bytes": len(result.readable.encode()),
        "minified_bytes": len(result.minified.encode()),
        "modules": list(result.modules),
        "parts": [asdict(part) for part in result.parts],
        "warnings": list(result.warnings),
    }


def _print(result: Bundle, target: Path) -> None:
    from rich.table import Table

    from squeeze.views.console import PlainConsole

    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("module")
    table.add_column("definition")
    table.add_column("bytes", justify="right")
    table.add_column("minified", justify="right")
    for part in result.parts[:SHOWN]:
        table.add_row(part.module, part.name, f"{part.bytes:,}", f"{part.chars:,}")
    rest = result.parts[SHOWN:]
    if rest:
        size, chars = sum(p.bytes for p in rest), sum(p.chars for p in rest)
        table.add_row(f"{len(rest)} more", "", f"{size:,}", f"{chars:,}")
    PlainConsole().print(table)
    flat, short = len(result.readable.encode()), len(result.minified.encode())
    file = result.shipped
    needs = f", needs {file.requires}" if file.requires else ""
    print_line(
        f"{len(result.modules)} files {result.raw_bytes:,} → reached {flat:,} → minified {short:,} → "
        f"{target} {len(file.data):,} bytes ({file.form}, {file.coder}{needs})"
    )
