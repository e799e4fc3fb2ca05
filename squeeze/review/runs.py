"""Findings on the runs: timers against 600 seconds, and whether all seeds are of one configuration."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from squeeze.review.claimed import ClaimedRuns, differences
from squeeze.review.findings import Finding, finding, listed
from squeeze.review.folder import Folder
from squeeze.review.lines import Timer
from squeeze.review.logs import LoggedRun

SECONDS = 600.0  # of training, and of evaluation
# The official loop looks at the clock after a step, and its ranks agree on the end after another.
LAST_STEPS = 2
MOST_SHOWN = 3
LEAST_SHARED = 3  # readings of the clock, equal to the millisecond, that two runs do not share
MOST_OVERTIME = 60.0  # seconds, however long the steps of a log are


def clock(folder: Folder, runs: Sequence[LoggedRun]) -> Finding:
    """Compare the longest training timer with the limit, the last steps excepted."""
    title = "longest training timer"
    flags, told = [], []
    timed = [run for run in runs if run.longest]
    late = [text for run in timed if (text := overtime(run))]
    if late and folder.is_record:
        flags.append(listed(late))
    if timed:
        longest = max(timed, key=_training_seconds)
        said = f"{longest.log}: {_training_seconds(longest):,.3f} s"
        if late and not folder.is_record:
            said += "; no record, so 600 s are not asked for"
        told.append(said)
    slow = [
        f"{run.log}: {run.evaluation:,.1f} s of evaluation"
        for run in runs
        if run.evaluation > SECONDS
    ]
    if slow and folder.is_record:
        flags.append(f"{listed(slow)}, limit {SECONDS:.0f} s")
    return finding("clock", title, flags, told, "no timer in the logs")


def overtime(run: LoggedRun) -> str | None:
    """Return a sentence on a run that trained beyond the limit, None for one that did not."""
    if run.longest is None:
        return None
    seconds = _training_seconds(run)
    allowed = min(LAST_STEPS * run.step_milliseconds / 1000, MOST_OVERTIME)
    allowed += run.longest.rounding / 1000
    if seconds <= SECONDS + allowed:
        return None
    return f"{run.log}: train_time {seconds:,.1f} s, limit {SECONDS:.0f} s"


def configurations(folder: Folder, claimed: ClaimedRuns) -> Finding:
    """Compare the settings of the runs behind the stated score, and their seeds."""
    title = "seeds and their configurations"
    runs = claimed.runs
    flags, told = [], []
    if claimed.kind != "one":
        apart = [*differing(runs), *repeated(runs), *recoded(runs)]
        flags += [
            *apart[:MOST_SHOWN],
            *([f"{len(apart)} such differences"] if apart[MOST_SHOWN:] else []),
        ]
    seeds = sorted({run.seed for run in runs if run.seed is not None})
    named = [run for run in runs if run.named_seed not in (None, run.seed)]
    flags += [f"{run.log} prints seed {run.seed}" for run in named[:MOST_SHOWN]]
    if seeds:
        told.append(f"{len(seeds)} seed{'s' * (len(seeds) != 1)}: {listed(seeds, 8)}")
    shared = min((len(run.settings) for run in runs), default=0)
    if len(runs) > 1 and shared and not flags:
        told.append(f"{len(runs)} logs agree in {shared} settings")
    others = len(folder.runs) - len(runs)
    if others > 0:
        told.append(f"{others} logged runs are no part of the score")
    if folder.copies:
        told.append(f"there twice: {listed(folder.copies)}")
    return finding("seeds", title, flags, told, "no seed in the logs")


def differing(runs: Sequence[LoggedRun]) -> list[str]:
    """Return sentences on settings in which runs differ from the first one."""
    texts = []
    for run in runs[1:]:
        apart = differences(runs[0], run)
        if apart:
            shown = [f"{name} {old} / {new}" for name, (old, new) in apart.items()]
            texts.append(f"{runs[0].log} and {run.log} differ: {listed(shown)}")
    return texts


def recoded(runs: Sequence[LoggedRun]) -> list[str]:
    """Return a sentence on runs whose logs count code of several sizes, none when they agree."""
    sizes = {run.code: run.log for run in runs if run.code is not None}
    shown = [f"{size:,} in {log}" for size, log in sorted(sizes.items())]
    return [f"several sizes of code: {listed(shown)}"] if len(sizes) > 1 else []


def repeated(runs: Iterable[LoggedRun]) -> list[str]:
    """Return sentences on runs that print the same scores, times or seed as another."""
    texts = []
    scores: dict[object, LoggedRun] = {}
    clocks: dict[Timer, LoggedRun] = {}
    seeds: dict[object, LoggedRun] = {}
    for run in runs:
        first = scores.setdefault(run.identity, run)
        readings = run.exact_timers
        shared = [clocks[timer] for timer in readings if timer in clocks]
        clocks = dict.fromkeys(readings, run) | clocks
        if first is not run and run.scores:
            texts.append(f"{first.log} and {run.log} print the same scores")
        elif len(shared) >= LEAST_SHARED and 2 * len(shared) > len(readings):
            texts.append(f"{shared[-1].log} and {run.log} print the same times")
        elif run.seed is not None and (first := seeds.setdefault(run.seed, run)) is not run:
            texts.append(f"{first.log} and {run.log} print one seed, {run.seed}")
    return texts


def _training_seconds(run: LoggedRun) -> float:
    return run.longest.milliseconds / 1000 if run.longest else 0.0
