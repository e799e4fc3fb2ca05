"""`squeeze budget`: the ledger as a tree, a difference or JSON, and a gate on bytes. Parses only."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from squeeze.cli.options import Whole, json_option, limit_option
from squeeze.cli.parsing.asked import with_asked
from squeeze.cli.parsing.command import Command
from squeeze.cli.parsing.values import Word
from squeeze.views.compare import GROUPS

ALL = 9  # levels; more than there are
FILE = click.Path(path_type=Path)


@click.command("budget", cls=Command)
@click.argument("paths", nargs=-1, required=True, type=click.Path())
@limit_option
@click.option(
    "--depth",
    type=Whole(0, ALL),
    default=2,
    show_default=True,
    help="Levels shown: component, role, layer, stream.",
)
@click.option("--sort", type=Word(["bytes", "file"]), default="bytes", show_default=True)
@click.option("--floors", is_flag=True, help="Decode, and show order-0 entropies beside the bytes.")
@click.option(
    "--squeezed", is_flag=True, help="Code files of others losslessly, and say what they would be."
)
@click.option("--html", type=FILE, help="Write a page that needs nothing else.")
@click.option(
    "--code-report",
    type=FILE,
    help="JSON of squeeze bundle: original names of its code [code.csv].",
)
@click.option("--plan", type=FILE, help="Plan of the pack [ARTIFACT.cache].")
@click.option(
    "--what-if", metavar="NAME=BITS,…", help="Foresee other bits: mlp.fc=3bit,tok_emb=int7."
)
@click.option("--diff", is_flag=True, help="Compare two PATHS; two folders or two .sqz always are.")
@click.option(
    "--by",
    type=Word(list(GROUPS)),
    default="role",
    show_default=True,
    help="Groups of a difference.",
)
@click.option("--fail-over", type=Whole(min=0), metavar="BYTES", help="Exit with 3 above.")
@click.option(
    "--fail-growth",
    metavar="1%|BYTES",
    help="Exit with 3 when PATHS outgrow --base, or the first of two.",
)
@click.option("--base", type=FILE, help="Totals by commit (JSON), for the gate.")
@click.option("--commit", help="Store the total in --base under this key.")
@json_option
def command(**options: Any) -> None:
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
    from squeeze.cli.runs.budget import BudgetRequest, run_budget

    request = BudgetRequest(**with_asked(options, options["paths"]))
    if request.compares and len(request.paths) != 2:
        raise click.UsageError("--diff compares exactly two paths")
    if request.compares and (given := _given(options, "what_if", "squeezed", "base", "commit")):
        raise click.UsageError(f"two paths are compared here, and {given} is of one ledger")
    of_files = ("floors", "squeezed", "fail_over", "fail_growth", "base", "commit")
    if request.what_if is not None and (given := _given(options, *of_files)):
        raise click.UsageError(f"--what-if foresees other bits, and {given} is of the files")
    if (request.fail_growth or request.commit) and request.base is None and not request.compares:
        raise click.UsageError("--fail-growth and --commit need --base")
    run_budget(request)


def _given(options: Mapping[str, Any], *names: str) -> str:
    """Return the first of these options that is used, as it is written; empty without one."""
    used = (name for name in names if options[name] not in (None, False))
    return next((f"--{name.replace('_', '-')}" for name in used), "")
