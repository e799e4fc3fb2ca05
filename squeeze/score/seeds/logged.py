"""Seeds of a run by its logs, as entrants of the challenge hand them in. No torch here."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from squeeze.errors import BadData
from squeeze.files import read_file
from squeeze.review.claimed import claimed_runs, score_of
from squeeze.review.deviation import SAMPLE, Deviation, stated_deviations
from squeeze.review.folder import read_folder
from squeeze.review.logs import LoggedRun, distinct_runs, read_runs
from squeeze.review.runs import differing, recoded, repeated
from squeeze.review.values import MOST_TEXT, decode_text

SUFFIXES = {".log", ".txt", ".out"}
METRICS = {"nats_per_token": "nats", "bpb": "bpb"}
# Targets of the official validation sets, which logs print: see squeeze.score.official.
OFFICIAL = {"62021632": "sp1024", "40540160": "sp8192"}
TOKENS = ("val_tokens", "tokens")  # settings that hold them


@dataclass(frozen=True)
class LoggedSeeds:
    """Scores of one configuration under several seeds, from lines `NAME val_loss:X val_bpb:Y`.

    name: of the score, the same in all logs
    notes: which score is meant, and logs that are left out
    """

    files: tuple[str, ...]
    runs: tuple[LoggedRun, ...]
    name: str
    notes: tuple[str, ...] = ()

    def values(self, metric: str) -> list[float]:
        """Return the metric of every seed."""
        scores = [score for run in self.runs if (score := score_of(run, self.name))]
        return [float(getattr(score, METRICS[metric])) for score in scores]

    @property
    def official(self) -> str | None:
        """Name of the official validation set, when all logs print its number of tokens."""
        names = {
            OFFICIAL.get(next((run.settings[key] for key in TOKENS if key in run.settings), ""))
            for run in self.runs
        }
        return names.pop() if len(names) == 1 else None

    @property
    def bytes_per_token(self) -> float:
        """Bytes of the scored text per token, as the two metrics imply."""
        return sum(self.values("nats_per_token")) / sum(self.values("bpb")) / math.log(2)


def is_logged(path: Path) -> bool:
    """Return whether a path is a log or a folder of logs, and no report."""
    return path.is_dir() or path.suffix in SUFFIXES


def read_logged(paths: Sequence[Path], name: str | None = None) -> LoggedSeeds:
    """Read the seeds of one run: its logs, or the folder of a submission.

    name: of the score; None: the last one that all logs print, or that the folder states

    Raises BadData unless all have the score, one configuration and different seeds.
    """
    if not all(map(is_logged, paths)):
        raise BadData("logs and reports are not compared", expected="either, for one run")
    runs: list[LoggedRun] = []
    deviations: list[Deviation] = []
    named = name
    for path in paths:
        if path.is_dir():
            folder = read_folder(path)
            claimed = folder.claimed
            runs += claimed.runs
            deviations += stated_deviations(folder.claims, claimed)
            named = named or claimed.name
        else:
            text = decode_text(read_file(path, MOST_TEXT))
            runs += [run for run in distinct_runs(read_runs(str(path), text)) if run.scores]
    unique = distinct_runs(runs)
    if not unique or not all(run.scores for run in unique):
        shown = ", ".join(map(str, paths))
        raise BadData(f"{shown}: no score", expected="lines NAME val_loss:X val_bpb:Y")
    named = named or claimed_runs(None, unique).name
    lacking = [run.log for run in unique if score_of(run, named) is None]
    if lacking:
        raise BadData(f"{lacking[0]}: no score of this name", expected=named)
    if len(unique) < len(runs):
        raise BadData("the same run twice is one seed", expected="another run in each log")
    apart = [*differing(unique), *repeated(unique)]
    if apart:
        raise BadData("these are not seeds of one configuration", found=apart[0][:300])
    apart_from_sd = [row.text for row in deviations if row.kind != SAMPLE]
    notes = f"the score is {named}", *recoded(unique), *apart_from_sd
    return LoggedSeeds(tuple(run.log for run in unique), tuple(unique), named, notes)
