"""`squeeze budget`: the ledger as a tree, a difference or JSON, and a gate on bytes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from squeeze.cli.options import json_option, limit_option, print_json
from squeeze.files import Remembering, read_file
from squeeze.ledger.attribute import attribute_paths
from squeeze.ledger.files import Read
from squeeze.ledger.gate import check_growth, check_limit, gate
from squeeze.ledger.table import Ledger
from squeeze.views.compare import GROUPS

if TYPE_CHECKING:
    from squeeze.packing.plan import Plan
    from squeeze.views.totals import Totals
    from squeeze.views.tree import Floors

ALL = 9  # levels; more than there are


@click.command("budget")
@click.argument("paths", nargs=-1, required=True, type=click.Path())
@limit_option
@click.option("--depth", type=click.IntRange(0, ALL), default=2, show_default=True,
              help="Levels shown: component, role, layer, stream.")  # fmt: skip
@click.option("--sort", type=click.Choice(["bytes", "file"]), default="bytes", show_default=True)
@click.option("--floors", is_flag=True, help="Decode, and show order-0 entropies beside the bytes.")
@click.option(
    "--squeezed", is_flag=True, help="Code files of others losslessly, and say what they would be."
)
@click.option(
    "--html", type=click.Path(path_type=Path), help="Write a page that needs nothing else."
)
@click.option("--code-report", type=click.Path(path_type=Path),
              help="JSON of squeeze bundle: original names of its code [code.csv].")  # fmt: skip
@click.option("--plan", type=click.Path(path_type=Path), help="Plan of the pack [ARTIFACT.cache].")
@click.option(
    "--what-if", metavar="NAME=BITS,…", help="Foresee other bits: mlp.fc=3bit,tok_emb=int7."
)
@click.option("--diff", is_flag=True, help="Compare two PATHS; two folders or two .sqz always are.")
@click.option("--by", type=click.Choice(list(GROUPS)), default="role", show_default=True,
              help="Groups of a difference.")  # fmt: skip
@click.option("--fail-over", type=click.IntRange(min=0), metavar="BYTES", help="Exit with 3 above.")
@click.option("--fail-growth", metavar="1%|BYTES", help="Exit with 3 when PATHS outgrow --base.")
@click.option(
    "--base", type=click.Path(path_type=Path), help="Totals by commit (JSON), for the gate."
)
@click.option("--commit", help="Store the total in --base under this key.")
@json_option
def command(
    paths: tuple[str, ...],
    limit: int,
    depth: int,
    sort: str,
    floors: bool,
    squeezed: bool,
    html: Path | None,
    code_report: Path | None,
    plan: Path | None,
    what_if: str | None,
    diff: bool,
    by: str,
    fail_over: int | None,
    fail_growth: str | None,
    base: Path | None,
    commit: str | None,
    as_json: bool,
) -> None:
    """Attribute every byte of PATHS: artifacts, other files, or folders of them.

    Rows sum to the files' sizes on disk. Exits with 3 when the total is over the limit. Exports of
    others (.ptz, .pt, safetensors, PGRP, self-extracting scripts) are read without running anything.

    \b
    Example:
      squeeze budget model.sqz train_gpt.py --limit 16000000
      squeeze budget final_model.int8.ptz --floors --squeezed
      squeeze budget old.sqz new.sqz --by tensor
      squeeze budget model.sqz --what-if mlp.fc=3.0bit
    """
    if (fail_growth or commit) and base is None:
        raise click.UsageError("--fail-growth and --commit need --base")
    from squeeze.packing.plan import Plan, plan_of
    from squeeze.views.code import with_names
    from squeeze.views.totals import is_submission, totals_of

    if diff or _two_of_a_kind(paths):
        if len(paths) != 2:
            raise click.UsageError("--diff compares exactly two paths")
        before, after = attribute_paths(paths[:1]), attribute_paths(paths[1:])
        _compare(before, after, paths, by, as_json)
        total = after.total
        if fail_growth:
            check_growth(before.total, after.total, fail_growth)
    else:
        read = Remembering()
        result = with_names(attribute_paths(paths, read), paths, code_report)
        counts = totals_of(result, paths) if is_submission(result) else None
        total = result.total if counts is None else counts.shipped_bytes
        known = plan_of(paths, read) if plan is None else Plan.load(plan)
        decoded = _floors(paths, read) if floors and (html or what_if is None) else None
        if what_if is not None:
            _foresee(known, what_if, limit, as_json)
        else:
            again = _squeezed(paths, read) if squeezed else None
            _show(result, counts, known, limit, depth, sort, decoded, again, as_json)
        if html is not None:
            write_page(html, result, paths, limit, known, counts, decoded, read)
        if base is not None:
            gate(base, total, fail_growth, commit)
    check_limit(total, limit if fail_over is None else fail_over)


def write_page(
    target: Path,
    result: Ledger,
    paths: tuple[str, ...],
    limit: int,
    plan: Plan | None = None,
    totals: Totals | None = None,
    floors: Floors | None = None,
    read: Read = read_file,
) -> None:
    """Write the HTML report of a ledger; raises SqueezeError when it cannot be written.

    plan: of a pack; see `squeeze.packing.plan.plan_of`. read: gives a file's bytes.
    """
    from squeeze.files import write_atomic
    from squeeze.views.histograms import histograms
    from squeeze.views.page import page

    text = page(
        result,
        limit,
        floors=floors,
        plan=plan,
        histograms=[item for path in _artifacts(paths) for item in histograms(read(path))],
        totals=totals,
    )
    write_atomic(target, text.encode())
    click.echo(f"page: {target}", err=True)


def _artifacts(paths: tuple[str, ...]) -> list[Path]:
    from squeeze.artifact import container
    from squeeze.ledger.files import files_of

    found = []
    for _, path in files_of(paths):
        with path.open("rb") as file:
            if file.read(len(container.MAGIC)) == container.MAGIC:
                found.append(path)
    return found


def _two_of_a_kind(paths: tuple[str, ...]) -> bool:
    kinds = [(Path(path).is_dir(), Path(path).suffix == ".sqz") for path in paths]
    return len(kinds) == 2 and kinds[0] == kinds[1] and any(kinds[0])


def _show(
    result: Ledger,
    totals: Totals | None,
    plan: Any,
    limit: int,
    depth: int,
    sort: str,
    known: Floors | None,
    sizes: dict[str, int] | None,
    as_json: bool,
) -> None:
    """The tree, the counts and the verdict, or all of it as JSON.

    known: floors, where they were asked for. sizes: of files of others as artifacts, likewise.
    """
    from squeeze.views.text import console, print_totals, print_tree, verdict
    from squeeze.views.tree import tree

    root = tree(result, floors=known, plan=plan, sort=sort)
    if as_json:
        facts = result.as_json(limit) | ({} if sizes is None else {"squeezed": sizes})
        if totals is not None:
            facts |= {"totals": totals.as_json(limit), "unused": limit - totals.shipped_bytes}
        if known is not None:
            facts["entropy_floor"] = root.floor
            facts["floors"] = [
                {"file": file, "tensor": tensor, "kind": kind, "bytes": size}
                for (file, tensor, kind), size in known.items()
            ]
        print_json(facts)
        return
    print_tree(root, limit, depth)
    console().print()
    if totals is not None:
        print_totals(totals, limit)
    console().print(verdict(result, limit, totals))
    for note in result.notes:
        click.echo(note, err=True)
    for name, size in (sizes or {}).items():
        change = 100 * (size / max(result.files[name], 1) - 1)
        which = f"{name}: " if len(result.files) > 1 else ""
        console().print(
            f"{which}squeeze would make this {size:,} bytes, losslessly ({change:+.1f} %)"
        )


def _squeezed(paths: tuple[str, ...], read: Read) -> dict[str, int]:
    """Bytes that files of others would have as artifacts with the same numbers, by name."""
    from squeeze.ledger.files import files_of
    from squeeze.outside import registry
    from squeeze.outside.tensors import squeezed

    found = {}
    for name, path in files_of(paths):
        outside = registry.read(name, read(path))
        if outside is not None and outside.plain is not None:
            found[name] = squeezed(outside.plain)
    return found


def _floors(paths: tuple[str, ...], read: Read) -> dict[tuple[str, str, str], float]:
    from squeeze.artifact import container
    from squeeze.ledger.files import files_of
    from squeeze.outside import registry

    found: dict[tuple[str, str, str], float] = {}
    for name, path in files_of(paths):
        data = read(path)
        if data[: len(container.MAGIC)] == container.MAGIC:
            from squeeze.views.floors import floors

            found |= floors(name, data)
        elif (outside := registry.read(name, data, with_floors=True)) is not None:
            found |= outside.floors
    return found


def _compare(before: Ledger, after: Ledger, paths: tuple[str, ...], by: str, as_json: bool) -> None:
    from squeeze.views.compare import as_json as difference
    from squeeze.views.compare import compare
    from squeeze.views.scores import scores_of
    from squeeze.views.text import print_changes

    changes, scores = compare(before, after, by), scores_of(Path(paths[0]), Path(paths[1]))
    if as_json:
        print_json(difference(changes, before, after) | {"score": scores.as_json()})
    else:
        print_changes(changes, before, after, scores)
    for note in scores.notes:
        click.echo(note, err=True)


def _foresee(plan: Any, text: str, limit: int, as_json: bool) -> None:
    from squeeze.views.text import print_what_if
    from squeeze.views.what_if import foresee, parse

    if plan is None:
        raise click.UsageError("--what-if needs the plan of a pack: --plan FILE, or ARTIFACT.cache")
    found = foresee(plan, parse(text))
    if as_json:
        print_json(found.as_json())
    else:
        print_what_if(found, limit)
