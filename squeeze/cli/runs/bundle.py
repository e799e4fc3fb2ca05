"""Runs `squeeze bundle`: makes the file, writes it, and prints what its parts cost."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from rich.table import Table

from squeeze.bundle.build import BOTH, Bundle, BundleOptions, bundle
from squeeze.bundle.emit.payload import STANDARD
from squeeze.bundle.specialise import ShrinkOptions
from squeeze.bundle.verify import Check, Verdict, by_path, verify
from squeeze.cli.terminal.printing import print_json, print_line, print_notes
from squeeze.errors import printable
from squeeze.files import check_outputs, output_beside, write_atomic
from squeeze.score.modes import Mode
from squeeze.submit.script import own_script, smallest_options
from squeeze.train.presets import find_preset
from squeeze.views.console import PlainConsole

SHOWN = 12  # rows of the table


@dataclass(frozen=True)
class BundleRequest:
    """Options of `squeeze bundle`, each under its name.

    coders: None where none were named. constants: values of flags, and of fields as CLASS.FIELD.
    arguments: those that both programs get where they are compared.
    """

    entry: Path | None
    preset: str | None
    settings: tuple[str, ...]
    out: Path | None
    packages: tuple[str, ...]
    keep: tuple[str, ...]
    constants: dict[str, object]
    coders: str | None
    form: str
    readable: Path | None
    no_minify: bool
    rename_classes: bool
    terse_errors: bool
    no_checks: bool
    specialised: bool
    verify: bool
    arguments: tuple[str, ...]
    tolerance: float
    as_json: bool

    @property
    def target(self) -> Path:
        """File of the bundle."""
        if self.out is not None or self.entry is None:
            return self.out or Path("train_gpt.py")
        return output_beside(self.entry, ".bundle.py")

    @property
    def options(self) -> BundleOptions:
        """Options of the bundler."""
        return BundleOptions(
            self.keep,
            constants={name: value for name, value in self.constants.items() if "." not in name},
            coders=STANDARD if self.coders is None else tuple(self.coders.split(",")),
            forms=BOTH if self.form == "auto" else (self.form,),
            minified=not self.no_minify,
            rename_classes=self.rename_classes,
            shrink=ShrinkOptions(
                self.terse_errors,
                checks=not self.no_checks,
                specialise=self.specialised,
                fields={name: value for name, value in self.constants.items() if "." in name},
            ),
        )


def run(request: BundleRequest) -> None:
    """Write the bundle of an entry script, or of our own script for a preset."""
    target = request.target
    check_outputs([target, request.readable], [request.entry])
    if request.entry is None:
        source, result = "submit/entry.py", _own(request)
    else:
        source = request.entry.name
        result = bundle(request.entry, request.packages, request.options)
    check_outputs([target, request.readable], result.sources)
    verdict = _verified(request, result)
    write_atomic(target, result.shipped.data)
    if request.readable is not None:
        head = f"# Generated from {printable(source)} by squeeze bundle: read it, do not edit it.\n"
        write_atomic(request.readable, (head + result.readable).encode())
    print_notes(result.warnings, "warning: ")
    if verdict is not None and verdict.exit_code:
        short = (
            f"{source} ended with exit code {verdict.exit_code}: nothing behind that is compared"
        )
        print_notes((f"{short}; {printable(verdict.last_line)}",), "warning: ")
    if request.as_json:
        print_json(_report(result, target, verdict))
    else:
        _print(result, target)
        if verdict is not None:
            print_line(
                f"{target} prints, writes and returns what {source} does, which ended with exit code "
                f"{verdict.exit_code}"
            )


def _verified(request: BundleRequest, result: Bundle) -> Verdict | None:
    """Return the comparison with the original, None where none was asked for.

    Raises BundleError if they differ.
    """
    if request.entry is None or not request.verify:
        return None
    sources = by_path(result.sources, request.entry)
    verdict = verify(
        sources,
        request.entry.name,
        result.shipped.data,
        Check(request.arguments, request.tolerance),
    )
    verdict.check()
    return verdict


def _own(request: BundleRequest) -> Bundle:
    """Return our own script for a preset: as `squeeze submit` would ship it, but for what is asked."""
    chosen = find_preset(request.preset or "").with_settings(request.settings)
    model, recipe = asdict(chosen.model), asdict(chosen.recipe)
    asked, smallest = request.options, smallest_options(model, recipe)
    options = replace(
        asked,
        constants={**smallest.constants, **asked.constants},
        coders=asked.coders if request.coders is not None else smallest.coders,
        shrink=replace(smallest.shrink, checks=asked.shrink.checks, fields=asked.shrink.fields),
    )
    result = own_script(model, recipe, 16_000_000, Mode(), options)
    # its source is ours, and lies in a folder that is gone: what it does is known
    return replace(result, warnings=())


def _report(result: Bundle, target: Path, verdict: Verdict | None) -> dict[str, Any]:
    """Return the bundle as plain values; `parts` sum to `bytes`, which depend on the minifier."""
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
        "verified": None if verdict is None else {"exit_code": verdict.exit_code},
    }


def _print(result: Bundle, target: Path) -> None:
    """Print the largest parts, then the way from source to file in bytes."""
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
