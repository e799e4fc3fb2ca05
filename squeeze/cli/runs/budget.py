"""Runs `squeeze budget`: shows a ledger, compares two or foresees another, and holds it to limits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import click

from squeeze.cli.terminal.printing import print_json, print_line, print_notes
from squeeze.files import Remembering, check_outputs, check_outside
from squeeze.ledger.attribute import attribute_paths
from squeeze.ledger.gate import check_growth, check_limit, check_model, gate
from squeeze.ledger.submission import is_submission, shipped_bytes
from squeeze.ledger.table import Ledger
from squeeze.packing.plan import Plan
from squeeze.views.code import with_names
from squeeze.views.compare import Change, as_json, compare
from squeeze.views.console import PlainConsole
from squeeze.views.page import PAGE, Report, write_page
from squeeze.views.plans import plan_of
from squeeze.views.scores import score_of, scores_of
from squeeze.views.text import (
    print_changes,
    print_totals,
    print_tree,
    print_what_if,
    verdict,
)
from squeeze.views.totals import Totals, totals_of
from squeeze.views.tree import Floors, Node, tree
from squeeze.views.what_if import foresee, parse


@dataclass(frozen=True)
class BudgetRequest:
    """Options of `squeeze budget`, each under its name."""

    paths: tuple[str, ...]
    limit: int
    depth: int
    sort: str
    floors: bool
    squeezed: bool
    html: Path | None
    code_report: Path | None
    plan: Path | None
    what_if: str | None
    diff: bool
    by: str
    fail_over: int | None
    fail_growth: str | None
    base: Path | None
    commit: str | None
    as_json: bool

    @property
    def compares(self) -> bool:
        """Two ledgers instead of one: asked for, or given two folders or two artifacts."""
        kinds = [(Path(path).is_dir(), Path(path).suffix == ".sqz") for path in self.paths]
        return self.diff or (len(kinds) == 2 and kinds[0] == kinds[1] and any(kinds[0]))


class Account:
    """The files of a request, read once, and what is derived from them when a view needs it."""

    def __init__(self, request: BudgetRequest) -> None:
        self.request = request
        self.paths = request.paths
        self.read = Remembering()

    @cached_property
    def ledger(self) -> Ledger:
        """Every byte of the files, code under its original names where these are known."""
        attributed = attribute_paths(self.paths, self.read)
        return with_names(attributed, self.paths, self.request.code_report)

    @cached_property
    def plan(self) -> Plan | None:
        """The plan given, or the one kept beside the artifact."""
        given = self.request.plan
        return plan_of(self.paths, self.read) if given is None else Plan.load(given)

    @property
    def cautions(self) -> tuple[str, ...]:
        """Sentences on a cost of packing that is severe or was not foreseen; none without a plan."""
        return () if self.plan is None else self.plan.cost.cautions

    @cached_property
    def totals(self) -> Totals | None:
        """The three counts of a submission, None of other files. Takes seconds: it minifies."""
        return totals_of(self.ledger, self.paths) if is_submission(self.ledger) else None

    @cached_property
    def floors(self) -> Floors | None:
        """Order-0 entropies, None where they are not asked for. Takes seconds: it decodes."""
        if not self.request.floors:
            return None
        from squeeze.views.floors import floors_of  # loads numpy

        return floors_of(self.paths, self.read)

    @cached_property
    def squeezed(self) -> dict[str, int] | None:
        """Bytes of files of others as artifacts, by name, None where they are not asked for."""
        if not self.request.squeezed:
            return None
        from squeeze.views.floors import squeezed_sizes  # loads numpy

        return squeezed_sizes(self.paths, self.read)


def run_budget(request: BudgetRequest) -> None:
    """Print what is asked for and write the page. Raises OverBudget when a limit is not held.

    Raises NoModel, once all is printed, for folders of which no limit can be checked.
    """
    reports = [request.plan, request.code_report]
    check_outputs([request.html, request.base], [*request.paths, *reports])
    check_outside(request.html, request.paths, own=PAGE)
    account = None if request.compares else Account(request)
    if account is None:
        before, after = compare_two(request)
        total = shipped_bytes(after)
        if before.has_model:
            check_model(after, request.paths[1:])
        if request.fail_growth:
            check_growth(shipped_bytes(before), total, request.fail_growth)
    else:
        total = shipped_bytes(account.ledger)
        if request.what_if is None:
            show_ledger(account)
        else:
            foresee_bits(account, request.what_if)
        if request.html is not None:
            write_report(account, request.html)
        if request.base is not None:
            gate(request.base, total, request.fail_growth, request.commit)
    if request.what_if is not None:
        return  # the limit is of the file that was foreseen, and said there
    check_limit(total, request.limit if request.fail_over is None else request.fail_over)
    if account is not None:
        check_model(account.ledger, account.paths)


def show_ledger(account: Account) -> None:
    """Print the tree, the totals and the verdict, or all of it as JSON."""
    request = account.request
    root = tree(account.ledger, floors=account.floors, plan=account.plan, sort=request.sort)
    if request.as_json:
        print_json(_facts(account, root))
        return
    squeezed = account.squeezed or {}
    print_tree(root, request.limit, request.depth)
    PlainConsole().print()
    if account.totals is not None:
        print_totals(account.totals, request.limit)
    PlainConsole().print(verdict(account.ledger, request.limit, account.totals))
    print_notes(account.ledger.notes, "")
    print_notes(account.cautions)
    files = account.ledger.files
    for name, size in squeezed.items():
        change = 100 * (size / max(files[name], 1) - 1)
        which = f"{name}: " if len(files) > 1 else ""
        PlainConsole().print(
            f"{which}squeeze would make this {size:,} bytes, losslessly ({change:+.1f} %)"
        )


def _facts(account: Account, root: Node) -> dict[str, Any]:
    """Return what `--json` prints of a ledger."""
    limit, totals = account.request.limit, account.totals
    facts = account.ledger.as_json(limit)
    if account.squeezed is not None:
        facts["squeezed"] = account.squeezed
    if account.cautions:
        facts["cautions"] = list(account.cautions)
    if totals is not None:
        facts["totals"] = totals.as_json(limit)
        if totals.has_model:
            facts["unused"] = limit - totals.shipped_bytes
    if account.floors is not None:
        facts["entropy_floor"] = root.floor
        facts["floors"] = [
            {"file": file, "tensor": tensor, "kind": kind, "bytes": size}
            for (file, tensor, kind), size in account.floors.items()
        ]
    return facts


def compare_two(request: BudgetRequest) -> tuple[Ledger, Ledger]:
    """Print how the second path differs from the first; returns the ledgers of both."""
    first, second = request.paths
    before, after = attribute_paths([first]), attribute_paths([second])
    changes = compare(before, after, request.by)
    scores = scores_of(Path(first), Path(second))
    if request.as_json:
        print_json(as_json(changes, before, after) | {"score": scores.as_json()})
    else:
        print_changes(changes, before, after, scores)
    print_notes(scores.notes, "")
    if request.html is not None:
        account = Account(replace(request, paths=(second,)))
        write_report(account, request.html, changes, f"{first}: {before.total:,} bytes before")
    return before, after


def foresee_bits(account: Account, wishes: str) -> None:
    """Print what the file and its score would be under other bits. Raises BadConfig, UsageError."""
    if account.plan is None:
        raise click.UsageError("--what-if needs the plan of a pack: --plan FILE, or ARTIFACT.cache")
    foreseen = foresee(account.plan, parse(wishes))
    if account.request.as_json:
        print_json(foreseen.as_json())
    else:
        print_what_if(foreseen, account.request.limit)
        print_notes(account.cautions)


def _histograms(account: Account) -> list[dict[str, Any]]:
    """Return the histograms of the page; none, and a note, where codes cannot be decoded."""
    try:
        from squeeze.views.histograms import histograms_of  # loads numpy and numba

        return histograms_of(account.paths, account.read)
    except ModuleNotFoundError as error:
        print_notes([f"the page has no histograms: {error.name} is not installed"])
        return []


def write_report(
    account: Account, target: Path, changes: Sequence[Change] = (), before: str = ""
) -> None:
    """Write the page of a ledger, and its changes. Raises SqueezeError when it cannot be written."""
    report = Report(
        account.ledger,
        account.request.limit,
        floors=account.floors,
        plan=account.plan,
        histograms=_histograms(account),
        totals=account.totals,
        score=score_of(Path(account.paths[0])) if len(account.paths) == 1 else None,
        paths=account.paths,
        changes=changes,
        before=before,
    )
    write_page(target, report)
    print_line(f"page: {target}", err=True)
