"""Stated standard deviations of a score beside those of its runs: the sample's, or the population's."""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from dataclasses import dataclass

from squeeze.review.claimed import ClaimedRuns, is_same, score_of
from squeeze.review.claims import Claims, Stated
from squeeze.review.values import Numeral

AVERAGED = {"seeds", "mean"}  # kinds of stated scores that are means of runs
SAMPLE, POPULATION, NEITHER = "sample", "population", "neither"
LOGS, SEEDS = "the logs", "the stated seeds"


@dataclass(frozen=True)
class Deviation:
    """A stated standard deviation. kind: SAMPLE, POPULATION or NEITHER; text: a sentence on it."""

    kind: str
    text: str


def stated_deviations(claims: Claims | None, claimed: ClaimedRuns) -> list[Deviation]:
    """Compare stated standard deviations with those of the logs, or of the seeds as they are stated.

    Over n runs the sample's divides by n - 1, the population's by n. Nothing is said where the stated
    score is no mean of runs.
    """
    if claims is None or claimed.kind not in AVERAGED:
        return []
    pairs = (("bpb", claims.bpb_sd), ("nats", claims.nats_sd))
    rows = [
        _compared(stated, dict(_values(claims, claimed, unit)))
        for unit, stated in pairs
        if stated is not None
    ]
    return [row for row in rows if row is not None]


def _values(
    claims: Claims, claimed: ClaimedRuns, unit: str
) -> Iterator[tuple[str, tuple[list[float], int]]]:
    """Yield (where they stand, (scores of at least two runs, their digits after the point))."""
    scores = [score for run in claimed.runs if (score := score_of(run, claimed.name))]
    logged = [value for score in scores if (value := getattr(score, unit)) is not None]
    if len(logged) > 1:
        yield LOGS, (logged, min(score.decimals for score in scores))
    stated = [value for seed in claims.seeds if (value := getattr(seed, unit)) is not None]
    digits = [value.decimals for value in stated if isinstance(value, Numeral)]
    if len(stated) > 1 and digits:
        yield SEEDS, (stated, max(digits))


def _compared(stated: Stated, values: dict[str, tuple[list[float], int]]) -> Deviation | None:
    """Return what a stated deviation is, None where there are no two scores."""
    said = f"{stated.field} {stated.value}"
    for kind, deviation in ((SAMPLE, statistics.stdev), (POPULATION, statistics.pstdev)):
        for where, (scores, decimals) in values.items():
            if is_same(deviation(scores), stated.value, decimals):
                text = f"{said} is the {kind}'s of {where}"
                if kind == POPULATION:
                    sample = _shown(statistics.stdev(scores), stated)
                    text += f" (over n); the sample's (over n - 1) is {sample}"
                return Deviation(kind, text)
    for where, (scores, _) in values.items():
        whole = _shown(statistics.pstdev(scores), stated)
        sample = _shown(statistics.stdev(scores), stated)
        text = f"{said}, that of {where} is {sample} (over n: {whole})"
        return Deviation(NEITHER, text)
    return None


def _shown(deviation: float, stated: Stated) -> str:
    """Return a deviation to at least the digits that are stated."""
    written = stated.value.decimals if isinstance(stated.value, Numeral) else 0
    return f"{deviation:.{min(max(6, written), 10)}f}"
