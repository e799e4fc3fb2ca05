"""Runs of several seeds: their scores, one configuration, and the clock of each training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from squeeze.score.stats import Spread, read_seeds, spread
from squeeze.submit.parent import plain_values
from squeeze.submit.plain import BadSubmission, is_number, read_object

MAX_SEED = 1 << 63


@dataclass(frozen=True)
class Training:
    """What `squeeze train --json` says of a run. clock: stage, seconds, inside (the budget)."""

    seed: int
    config: dict[str, Any]
    recipe: dict[str, Any]
    clock: list[dict[str, Any]]


@dataclass(frozen=True)
class SeedRun:
    """One seed and the report of its score (`squeeze eval --json`)."""

    seed: int
    report: dict[str, Any]
    training: Training | None = None

    def as_json(self) -> dict[str, Any]:
        """`seed….json`: the run, without paths of the machine that made it."""
        report, training = self.report, self.training
        config = dict(report["config"]) | ({} if training is None else training.recipe)
        told = (
            "mode",
            "options",
            "tokens",
            "bytes",
            "official",
            "partial",
            "versions",
            "device_name",
        )
        return {
            "seed": self.seed,
            "val_bpb": report["bpb"],
            "val_loss": report["nats_per_token"],
            "config": plain_values(config),
            **{name: report[name] for name in told if name in report},
            "sha256": {**report["sha256"], "data": data_hashes(report["sha256"]["data"])},
            **({} if training is None else {"clock": training.clock}),
        }


@dataclass(frozen=True)
class SeedRuns:
    """Seeds of one configuration, in the order given. notes: see `squeeze.score.stats`."""

    runs: tuple[SeedRun, ...]
    notes: tuple[str, ...] = field(default=())

    def spread(self, metric: str = "bpb") -> Spread:
        """Mean and standard deviation over the seeds."""
        return spread([float(run.report[metric]) for run in self.runs])

    def of_model(self, sha256: str) -> SeedRun:
        """The run of the model that ships. Raises BadSubmission when it is not there."""
        for run in self.runs:
            if run.report["sha256"]["model"] == sha256:
                return run
        raise BadSubmission(
            "no seed run is of the model that ships",
            expected=f"a report of the model {sha256[:12]}…",
            found=", ".join(str(run.report["sha256"]["model"])[:12] for run in self.runs),
            fix="Give the report of `squeeze eval MODEL --json` too.",
        )


def read_seed_runs(given: Sequence[str], trainings: Sequence[Path] = ()) -> SeedRuns:
    """Reports given as FILE or SEED=FILE, and reports of the trainings, matched by seed.

    Raises BadData for mixed configurations or one model twice, BadSubmission for one seed twice or
    an unknown one.
    """
    named = [_named(text) for text in given]
    found = read_seeds([path for _, path in named])
    trained = [read_training(path) for path in trainings]
    _no_seed_twice([training.seed for training in trained])
    by_seed = {training.seed: training for training in trained}
    runs = []
    for (seed, path), report in zip(named, found.reports, strict=True):
        stated = read_object(path).get("seed", report.get("seed"))
        if stated is not None and seed is not None and stated != seed:
            raise BadSubmission(f"{path}: another seed", expected=seed, found=repr(stated)[:40])
        seed = seed if seed is not None else stated
        if seed is None:
            raise BadSubmission(
                f"{path}: does not say its seed", fix=f"Give it as --seed-run SEED={path.name}."
            )
        runs.append(SeedRun(check_seed(seed, str(path)), report, by_seed.pop(seed, None)))
    _no_seed_twice([run.seed for run in runs])
    if by_seed:
        raise BadSubmission("a training without a score", found=f"seed {sorted(by_seed)[0]}")
    recipes = [run.training.recipe for run in runs if run.training is not None]
    for run in runs:
        if run.training is not None:
            _same("model", plain_values(run.report["config"]), run.training.config, run.seed)
            _same("recipe", recipes[0], run.training.recipe, run.seed)
    return SeedRuns(tuple(runs), found.notes)


def _named(text: str) -> tuple[int | None, Path]:
    head, equals, tail = text.partition("=")
    if equals and head.isascii() and head.isdigit():
        return int(head[:30]), Path(tail)
    return None, Path(text)


def check_seed(seed: object, what: str) -> int:
    """The seed itself. Raises BadSubmission for anything but a whole number below 2^63."""
    if not isinstance(seed, int) or isinstance(seed, bool) or not 0 <= seed < MAX_SEED:
        raise BadSubmission(f"{what}: seed", expected="a whole number", found=repr(seed)[:40])
    return seed


def _no_seed_twice(seeds: Sequence[int]) -> None:
    twice = sorted({seed for seed in seeds if seeds.count(seed) > 1})
    if twice:
        raise BadSubmission("a seed twice is one seed", found=f"seed {twice[0]}")


def _same(what: str, first: dict[str, Any], other: dict[str, Any], seed: int) -> None:
    names = sorted(n for n in first.keys() | other.keys() if first.get(n) != other.get(n))
    if names:
        raise BadSubmission(
            f"the training of seed {seed} is of another {what}",
            expected=f"{names[0]} {str(first.get(names[0]))[:60]}",
            found=f"{str(other.get(names[0]))[:60]}",
        )


def read_training(path: Path) -> Training:
    """Read a report of `squeeze train --json`. Raises BadSubmission."""
    report = read_object(path)
    config, recipe = report.get("config"), report.get("recipe")
    if not isinstance(config, dict) or not isinstance(recipe, dict):
        raise BadSubmission(
            f"{path}: not a report of a training", expected="what `squeeze train --json` prints"
        )
    seed = check_seed(report.get("seed"), str(path))
    return Training(seed, config, recipe, read_clock(report.get("clock"), str(path)))


def read_clock(rows: object, what: str) -> list[dict[str, Any]]:
    """Rows of a clock ledger. Raises BadSubmission for other than stage, seconds ≥ 0, inside."""
    found = []
    for row in rows if isinstance(rows, list) and len(rows) <= 1000 else [None]:
        stage, seconds = (
            (row.get("stage"), row.get("seconds")) if isinstance(row, dict) else ("", 0)
        )
        inside = row.get("inside") if isinstance(row, dict) else None
        fine = isinstance(stage, str) and is_number(seconds) and isinstance(inside, bool)
        if not fine or seconds < 0:  # type: ignore[operator]
            raise BadSubmission(
                f"{what}: clock", expected="a list of {stage, seconds, inside}",
                found=repr(row)[:60],
            )  # fmt: skip
        found.append(dict(row))  # type: ignore[arg-type]
    return found


def data_hashes(stated: object) -> list[str]:
    """Hashes of the shards, in order, however a report holds them."""
    values = stated.values() if isinstance(stated, dict) else stated
    return [str(value) for value in values] if values is not None else []  # type: ignore[attr-defined]
