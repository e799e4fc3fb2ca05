"""`squeeze budget`: the ledger as a table or JSON, and a gate on the limit."""

from __future__ import annotations

import sys
from typing import Any

import click

from squeeze.budget import Ledger, Row, ledger
from squeeze.cli.options import json_option, limit_option, print_json
from squeeze.errors import OverBudget


@click.command("budget")
@click.argument("paths", nargs=-1, required=True, type=click.Path())
@limit_option
@click.option(
    "--by", type=click.Choice(["role", "layer", "tensor"]), default="role", show_default=True
)
@json_option
def command(paths: tuple[str, ...], limit: int, by: str, as_json: bool) -> None:
    """Attribute every byte of PATHS: artifacts, other files, or folders of them.

    Rows sum to the files' sizes on disk. Exits with 3 when the total is over the limit.

    \b
    Example:
      squeeze budget model.sqz train_gpt.py --limit 16000000
      squeeze budget submission/ --json
    """
    result = ledger(paths)
    if as_json:
        print_json(result.as_json(limit))
    else:
        print_ledger(result, limit, by)
    check_limit(result.total, limit)


def check_limit(total: int, limit: int) -> None:
    """Raise OverBudget (exit code 3) when total > limit, with by how much."""
    if total > limit:
        raise OverBudget(
            f"over the limit by {total - limit:,} bytes",
            expected=f"≤ {limit:,} bytes",
            found=f"{total:,}",
            fix="Use fewer bits (--quant), or smaller code.",
        )


def print_ledger(result: Ledger, limit: int, by: str = "role") -> None:
    """A table of component, group and stream: bytes, share of the limit, bits per symbol."""
    from rich.console import Console
    from rich.table import Table

    def group(row: Row) -> tuple[str, str, str]:
        names = {
            "role": row.role,
            "layer": "" if row.layer is None else f"layer {row.layer}",
            "tensor": row.tensor,
        }
        where = names[by] if row.component == "weights" else row.file
        return row.component, where or "outside layers", row.kind

    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("component", by, "stream"):
        table.add_column(title, overflow="fold")
    for title in ("codec", "bytes", "% limit", "bits/symbol"):
        table.add_column(title, justify="right" if title != "codec" else "left")
    for (component, where, kind), rows in result.grouped(group).items():
        table.add_row(component, where, kind, *_figures(rows, limit))
    table.add_section()
    table.add_row("total", "", "", "", f"{result.total:,}", f"{100 * result.total / limit:.2f}", "")
    # a CI log or pipe has no width of its own: 100 columns hold every row unfolded
    console = Console(width=None if sys.stdout.isatty() else 100)
    console.print(table)
    console.print(verdict(result, limit), highlight=False)


def verdict(result: Ledger, limit: int) -> str:
    """One line: weights, bits per weight, unattributed bytes, and what is left of the limit."""
    unused = limit - result.total
    room = f"{unused:,} bytes unused" if unused >= 0 else f"OVER by {-unused:,} bytes"
    density = f"{result.weights:,} weights at {result.bits_per_weight():.3f} bits"
    return f"{density}; unattributed {result.unattributed}; limit {limit:,}: {room}"


def _figures(rows: list[Row], limit: int) -> list[Any]:
    size = sum(row.bytes for row in rows)
    elements = sum(row.elements for row in rows)
    names = list(dict.fromkeys(row.codec for row in rows if row.codec))
    codec = names[0] if len(names) == 1 else f"{len(names)} codecs" if names else ""
    bits = f"{8 * size / elements:.3f}" if elements else ""
    return [codec, f"{size:,}", f"{100 * size / limit:.2f}", bits]
