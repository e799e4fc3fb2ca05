"""Findings on bytes: model in the log + code on disk against the limit, and what is stated of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath

from squeeze.ledger.gate import NO_MODEL
from squeeze.review.claims import Stated
from squeeze.review.findings import Finding, finding, listed
from squeeze.review.folder import TOKENIZERS, Folder
from squeeze.review.logs import LoggedRun

TITLE = "model in the log + code on disk"


def total_bytes(folder: Folder, runs: Sequence[LoggedRun], limit: int) -> Finding:
    """Compare the model, as it lies there or at its largest in the logs, + the code with the limit."""
    logged = {run.log: run.model for run in runs if run.model is not None}
    models = {f"{name} on disk": size for name, size in folder.models.items()} or logged
    if models and folder.script and folder.script.size:
        return _compared(folder, models, logged, limit)
    flags = []
    totals = [run.total for run in runs if run.total is not None]
    for who, size in (
        ("submission.json", _largest(folder)),
        ("the log", max(totals, default=None)),
    ):
        if size is not None and size > limit:
            flags.append(f"{who} counts {size:,.0f} of {limit:,}: over by {size - limit:,.0f}")
    lacking = "there is no script" if models else "no log tells a model's bytes"
    return finding("bytes", TITLE, flags, untold=f"{lacking}: {NO_MODEL}", total=None)


def _compared(
    folder: Folder, models: Mapping[str, int], logged: Mapping[str, int], limit: int
) -> Finding:
    """Return the finding on a model that is there, or else the largest of those that logs tell."""
    assert folder.script is not None
    code = sum(folder.script.code.values())
    named = dict(models) if folder.models else dict([max(models.items(), key=lambda item: item[1])])
    model = sum(named.values())
    total = model + code
    parts = f"{model:,} ({listed(list(named))}) + {code:,} ({listed(list(folder.script.code))})"
    said = f"{parts} = {total:,} of {limit:,}"
    flags = [f"{said}: over by {total - limit:,}"] if total > limit else []
    told = [] if flags else [f"{said}: {limit - total:,} unused"]
    if folder.models and logged and model not in logged.values():
        flags.append(f"no log tells these bytes but {listed([f'{n:,}' for n in logged.values()])}")
    left_out = {
        n: s for n, s in folder.script.uses.items() if PurePosixPath(n).suffix in TOKENIZERS
    }
    if left_out:
        told.append(f"tokenizer not counted: {sum(left_out.values()):,} ({listed(list(left_out))})")
    doubtful = {
        f"{name} ({size:,})": size
        for name, size in folder.script.doubtful.items()
        if name not in named and PurePosixPath(name).suffix not in TOKENIZERS
    }
    if doubtful:
        told.append(
            f"not counted, but may be meant by names that {folder.script.name} puts together when it "
            f"runs: {listed(list(doubtful))}"
        )
    return finding("bytes", TITLE, flags, told, total=total, model=model, code=code)


def counted_code(folder: Folder, runs: Sequence[LoggedRun]) -> Finding:
    """Compare the code that the logs and submission.json count with the files on disk."""
    title = "code counted / on disk"
    script = folder.script
    scripts = {name: size for name, size in folder.files.items() if name.endswith(".py")}
    statements = [(run.log, run.code) for run in runs if run.code is not None]
    if folder.claims:
        name = folder.claims.name
        statements += [(f"{name}: {row.field}", int(row.value)) for row in folder.claims.code]
    if script is None or not statements:
        return finding("code", title, [], untold="no size of code to compare")
    fitting = {script.size, sum(script.code.values())}
    flags, told = [], []
    for who, size in statements:
        if size in fitting:
            continue
        others = [name for name, other in scripts.items() if other == size]
        if others:
            told.append(f"{who}: {size:,} is {listed(others)}")
        else:
            flags.append(f"{who} {size:,}")
    on_disk = f"{script.name} has {script.size:,} bytes"
    if flags:
        return finding("code", title, [f"{on_disk}; counted are {listed(flags)}"], told)
    return finding("code", title, [], told or [on_disk])


def stated_bytes(folder: Folder, runs: Sequence[LoggedRun], limit: int) -> Finding:
    """Compare the bytes that submission.json states with the totals in the logs, and the limit."""
    title = "bytes stated / in the logs"
    claims = folder.claims
    totals = {run.log: run.total for run in runs if run.total is not None}
    if claims is None or not claims.totals:
        return finding("stated-bytes", title, [], untold="no total in submission.json")
    flags, told = [], []
    over = [stated for stated in claims.totals if stated.value > limit]
    if over:
        flags.append(f"{over[0].field} {over[0].value:,.0f} is over {limit:,}")
    if not totals:
        row = _plainest(claims.totals)
        return finding("stated-bytes", title, flags, untold=f"{row.field} {row.value:,.0f}; no log")
    low, high = min(totals.values()), max(totals.values())
    mean = sum(totals.values()) / len(totals)
    code = sum(folder.script.code.values()) if folder.script else 0
    on_disk = [
        run.model + code for run in runs if run.model is not None and run.model + code <= high
    ]
    seeds = {claim.seed: claim.total for claim in claims.seeds if claim.total is not None}
    for run in runs:
        seed = run.seed if run.named_seed is None else run.named_seed
        if seed in seeds and run.total is not None and abs(seeds[seed] - run.total) > 1:
            flags.append(f"seed {seed}: stated {seeds[seed]:,.0f}, {run.log} {run.total:,}")
    top = [stated for stated in claims.totals if "." not in stated.field]
    for stated in top:
        if not _is_counted(stated, [*totals.values(), mean, *on_disk]):
            flags.append(f"{stated.field} {stated.value:,.0f}, the logs {_range(low, high)}")
    if not flags:
        row = _plainest(top or claims.totals)
        more = "more than " if row.value > high + 1 else ""
        told.append(f"{row.field} {row.value:,.0f}, {more}the logs {_range(low, high)}")
        over_logged = {log: total for log, total in totals.items() if total > row.value + 1}
        if over_logged and not row.statistic and len(runs) > 1:
            told.append(f"{listed(list(over_logged))} counts more")
    return finding("stated-bytes", title, flags, told)


def _is_counted(stated: Stated, totals: Sequence[float]) -> bool:
    """Return whether a stated total is one of these, or more than all of them."""
    if stated.statistic == "max":
        return stated.value >= max(totals) - 1
    return stated.value >= max(totals) or any(abs(stated.value - total) <= 1 for total in totals)


def _largest(folder: Folder) -> float | None:
    """Return the largest total that submission.json states, None without any."""
    totals = folder.claims.totals if folder.claims else ()
    return max((stated.value for stated in totals), default=None)


def _plainest(totals: Sequence[Stated]) -> Stated:
    """Return the statement with the shortest name: of the whole, not of a seed."""
    return min(totals, key=lambda stated: (stated.field.count("."), len(stated.field)))


def _range(low: int, high: int) -> str:
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"
