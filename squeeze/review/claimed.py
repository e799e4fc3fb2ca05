"""The runs that a stated score rests on, found by comparing it with the scores in the logs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import chain

from squeeze.review.claims import Claims
from squeeze.review.lines import Score
from squeeze.review.logs import LoggedRun
from squeeze.review.values import Numeral

SHARED = 0.8  # of the settings that two logs of one script print
MOST_GROUPS = 100  # runs that are tried as the first of one configuration
MOST_APART = 256  # bytes of code by which the scripts of two seeds may differ
LEAST_DECIMALS, MOST_DECIMALS = 2, 8  # of bits a byte


@dataclass(frozen=True)
class ClaimedRuns:
    """Runs behind a stated score.

    kind: "seeds" (each stated seed has its log), "mean" (of one score over all runs), "one" (the score
    of a single run) or "none"
    name: of the score in the logs; mean: of it over the runs, bits a byte, None where no log has it
    nats: the same in nats a token
    absent: stated seeds without a log
    faults: sentences on stated seeds whose log gives another score
    """

    kind: str
    runs: tuple[LoggedRun, ...]
    name: str = ""
    mean: float | None = None
    nats: float | None = None
    absent: tuple[int, ...] = ()
    faults: tuple[str, ...] = ()

    def values(self, unit: str) -> list[float]:
        """Return the score of every run that has it, in "bpb" or "nats"."""
        scores = [score for run in self.runs if (score := score_of(run, self.name))]
        return [value for score in scores if (value := getattr(score, unit)) is not None]


def claimed_runs(claims: Claims | None, runs: Sequence[LoggedRun]) -> ClaimedRuns:
    """Return the runs that the stated score is made of; all of them when none gives it."""
    stated = claims.bpb if claims else None
    if claims is None or stated is None or not any(run.scores for run in runs):
        return _averaged("none", runs, _last_name(runs))
    by_seed = _by_seed(claims, runs)
    if by_seed is not None:
        return by_seed
    seeds = {claim.seed for claim in claims.seeds}
    seeded = [run for run in runs if run.seed in seeds or run.named_seed in seeds]
    absent = tuple(seed for seed in sorted(seeds) if not _of_seed(seed, runs)) if seeds else ()
    groups = (_alike(run, runs) for run in runs[:MOST_GROUPS])
    for some in chain((seeded, list(runs)), (group for group in groups if len(group) > 1)):
        for name in _common_names(some):
            averaged = _averaged("mean" if len(some) > 1 else "one", some, name, absent)
            if averaged.mean is not None and is_same(averaged.mean, stated.value):
                return averaged
    match = _with_score(stated.value, runs)
    if match is not None:
        return _averaged("one", _alike(match[0], runs), match[1], absent)
    return _averaged("none", seeded or runs, _last_name(seeded or runs), absent)


def with_training(runs: Sequence[LoggedRun], every: Sequence[LoggedRun]) -> list[LoggedRun]:
    """Return runs, and for those that only evaluate the runs that trained their seeds.

    every: all runs of the folder, which stand in where no run of these seeds tells a size or a time
    """
    lacking = {run.seed for run in runs if run.model is None or not run.timers}
    others = [run for run in every if run not in runs and (run.model is not None or run.timers)]
    own = [*runs, *(run for run in others if run.seed in lacking)]
    return own if any(run.model is not None or run.timers for run in own) else [*runs, *others]


def score_of(run: LoggedRun, name: str) -> Score | None:
    """Return the last score of this name in a run, None without one."""
    return next((score for score in reversed(run.scores) if score.name == name), None)


def is_same(value: float, stated: float, decimals: int = MOST_DECIMALS) -> bool:
    """Return whether a stated number is `value`, rounded or cut to the digits it is written with.

    decimals: digits that `value` itself has after the point
    """
    written = stated.decimals if isinstance(stated, Numeral) else MOST_DECIMALS
    unit = 10.0 ** -min(max(LEAST_DECIMALS, written), MOST_DECIMALS)
    own = 0.505 * 10.0**-decimals
    return -0.505 * unit - own <= value - stated <= 0.99 * unit + own


def is_alike(first: LoggedRun, other: LoggedRun) -> bool:
    """Return whether two runs are of one script and one configuration, as far as their logs tell.

    Under another seed a script may have other bytes: those of the seed, if it is written there.
    """
    shared = len(first.settings.keys() & other.settings.keys())
    most = max(len(first.settings), len(other.settings))
    apart = abs((first.code or 0) - (other.code or 0))
    scripts = apart == 0 or (apart <= MOST_APART and first.seed != other.seed)
    return scripts and shared >= SHARED * most and not differences(first, other)


def _alike(first: LoggedRun, runs: Sequence[LoggedRun]) -> list[LoggedRun]:
    return [run for run in runs if is_alike(first, run)]


def differences(first: LoggedRun, other: LoggedRun) -> dict[str, tuple[str, str]]:
    """Return the settings in which two runs differ, of those that both logs print."""
    return {
        name: (first.settings[name], other.settings[name])
        for name in sorted(first.settings.keys() & other.settings.keys())
        if first.settings[name] != other.settings[name]
    }


def _by_seed(claims: Claims, runs: Sequence[LoggedRun]) -> ClaimedRuns | None:
    """Return the runs of the seeds whose scores are stated one by one; None when they are not."""
    stated = {claim.seed: claim.bpb for claim in claims.seeds if claim.bpb is not None}
    if not stated:
        return None
    chosen: list[tuple[LoggedRun, str]] = []
    absent, faults = [], []
    for seed, bpb in stated.items():
        own = _of_seed(seed, runs)
        match = _with_score(bpb, own) or _with_score(bpb, runs)
        if match is not None:
            chosen.append(match)
            if match[0] not in own:
                faults.append(
                    f"the score of seed {seed} is in {match[0].log}, seed {match[0].seed}"
                )
        elif own:
            chosen.append((own[0], ""))
            faults.append(f"seed {seed} is stated as {bpb}, {own[0].log} gives another score")
        else:
            absent.append(seed)
    names = [name for _, name in chosen if name]
    if not names:
        return None
    name = max(names, key=names.count)
    averaged = _averaged("seeds", [run for run, _ in chosen], name, tuple(absent))
    return replace(averaged, faults=tuple(faults))


def _with_score(bpb: float, runs: Sequence[LoggedRun]) -> tuple[LoggedRun, str] | None:
    """Return the run that prints a score, or the next to it, and its name there; None without one."""
    matches = [
        (-score.decimals, abs(score.bpb - bpb), run, score.name)
        for run in runs
        for score in reversed(run.scores)
        if is_same(score.bpb, bpb, score.decimals)
    ]
    return min(matches, key=lambda match: match[:2])[2:] if matches else None


def _of_seed(seed: int, runs: Sequence[LoggedRun]) -> list[LoggedRun]:
    """Return the runs of a seed: by their file's name before what they print, which may be a default."""
    named = [run for run in runs if run.named_seed == seed]
    return named + [run for run in runs if run.seed == seed and run not in named]


def _averaged(
    kind: str, runs: Sequence[LoggedRun], name: str, absent: tuple[int, ...] = ()
) -> ClaimedRuns:
    scores = [score for run in runs if (score := score_of(run, name))]
    mean = sum(score.bpb for score in scores) / len(scores) if scores else None
    losses = [score.nats for score in scores if score.nats is not None]
    nats = sum(losses) / len(scores) if scores and len(losses) == len(scores) else None
    return ClaimedRuns(kind, tuple(runs), name, mean, nats, absent)


def _common_names(runs: Sequence[LoggedRun]) -> list[str]:
    """Return the names of scores that all runs have, the last of a log first."""
    if not runs:
        return []
    common = set.intersection(*({score.name for score in run.scores} for run in runs))
    return [
        name for name in dict.fromkeys(s.name for s in reversed(runs[0].scores)) if name in common
    ]


def _last_name(runs: Sequence[LoggedRun]) -> str:
    """Return the name of the last score that all runs have, else of the first that has any."""
    common = _common_names([run for run in runs if run.scores])
    scored = [run.final.name for run in runs if run.final]
    return common[0] if common else scored[0] if scored else ""
