"""Runs of several seeds: their scores, one configuration, and the clock of each training.

A score is a report of `squeeze eval --json`, or the log of a script that trains and scores by itself,
whose last line is a JSON object of facts of the run (`train.log` of our own).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from squeeze.errors import BadData
from squeeze.ledger.submission import CODE, MODEL
from squeeze.score.report import EvalReport, Hashes
from squeeze.score.seeds.compare import read_reports
from squeeze.score.seeds.student import Spread, spread
from squeeze.submit.parent import plain_values
from squeeze.submit.plain import (
    MAX_JSON,
    BadSubmission,
    is_number,
    parse_object,
    read_object,
    read_plain,
)
from squeeze.train.metadata import CONFIG_KEY, RECIPE_KEY, read_metadata
from squeeze.train.model.config import ModelConfig
from squeeze.train.optim.recipe import Recipe

REPORTED = ("mode", "options", "tokens", "bytes", "official", "partial", "versions", "device_name")
SAME = ("mode", "tokens", "bytes", "config", "recipe")  # of the logs of one configuration
Clock = list[dict[str, Any]]


@dataclass(frozen=True)
class Training:
    """Facts of a training run, from `squeeze train --json` or a checkpoint (no seed, no clock).

    clock: rows of stage, seconds, inside (the budget).
    """

    config: dict[str, Any]
    recipe: dict[str, Any]
    seed: int | None = None
    clock: Clock | None = None


@dataclass(frozen=True)
class SeedRun:
    """One seed and the report of its score.

    code: SHA-256 of the script that made it, from its log; None where the report is of `squeeze eval`
    """

    seed: int
    report: EvalReport
    recipe: dict[str, Any] = field(default_factory=dict)
    clock: Clock | None = None
    code: str | None = None

    def as_json(self) -> dict[str, Any]:
        """Return `seed….json`: the run, without paths of the machine that made it."""
        report = self.report
        code = {} if self.code is None else {"code": self.code}
        facts = {name: getattr(report, name) for name in REPORTED}
        stated = {name: value for name, value in facts.items() if value is not None}
        if self.code is None:  # only an evaluation knows whether a set is an official one
            stated["official"] = report.official
        hashes = {**asdict(report.sha256), "data": report.sha256.shards}
        return {
            "seed": self.seed,
            "val_bpb": report.bpb,
            "val_loss": report.nats_per_token,
            "config": plain_values({**report.config, **self.recipe, **code}),
            **{name: stated[name] for name in REPORTED if name in stated},
            "sha256": {name: value for name, value in hashes.items() if value},
            **({} if self.clock is None else {"clock": self.clock}),
        }


@dataclass(frozen=True)
class SeedRuns:
    """Seeds of one configuration, in the order given. notes: see `squeeze.score.seeds.compare`."""

    runs: tuple[SeedRun, ...]
    notes: tuple[str, ...] = ()

    def spread(self, metric: str = "bpb") -> Spread:
        """Return mean and standard deviation over the seeds."""
        return spread([run.report.metric(metric) for run in self.runs])

    def of_model(self, sha256: str) -> SeedRun:
        """Return the run of the model that ships. Raises BadSubmission when there is none."""
        for run in self.runs:
            if run.report.sha256.model == sha256:
                return run
        raise BadSubmission(
            "no seed run is of the model that ships",
            expected=f"a report of the model {sha256[:12]}…",
            found=", ".join(str(run.report.sha256.model)[:12] for run in self.runs),
            fix="Give the report of `squeeze eval MODEL --json` too.",
        )


def read_seed_runs(given: Sequence[str], trainings: Sequence[Path] = ()) -> SeedRuns:
    """Read reports given as FILE or SEED=FILE, and reports of the trainings, matched by seed.

    Raises BadData for mixed configurations or one model twice, BadSubmission for one seed twice or
    an unknown one.
    """
    named = [_named(text) for text in given]
    logs = [path.suffix == ".log" for _, path in named]
    notes: tuple[str, ...] = ()
    if any(logs):
        if not all(logs):
            raise BadSubmission(
                "reports of two kinds", expected="all of eval, or all of the script"
            )
        stated = [read_log(path) for _, path in named]
        _one_configuration(stated)
        reports = [_report(facts) for facts in stated]
    else:
        seeds_read = read_reports([path for _, path in named])
        stated, reports = [read_object(path) for _, path in named], list(seeds_read.reports)
        notes = seeds_read.notes
    trained = {training.seed: training for training in map(read_training, trainings)}
    if len(trained) < len(trainings):
        raise BadSubmission("two trainings of one seed")
    runs = []
    for (seed, path), facts, report in zip(named, stated, reports, strict=True):
        seed = _seed(seed, facts.get("seed"), path)
        code = facts["sha256"][CODE] if path.suffix == ".log" else None
        clock = read_clock(facts["clock"], str(path)) if "clock" in facts else None
        run = SeedRun(seed, report, facts.get("recipe") or {}, clock, code)
        alone = trained.pop(None, None) if len(named) == 1 else None  # a checkpoint has no seed
        runs.append(_trained(run, trained.pop(seed, alone)))
    seeds = [run.seed for run in runs]
    twice = [seed for seed in seeds if seeds.count(seed) > 1]
    if twice:
        raise BadSubmission("a seed twice is one seed", found=f"seed {twice[0]}")
    if trained:
        raise BadSubmission("a training without a score", found=f"seed {next(iter(trained))}")
    recipes = [run.recipe for run in runs if run.recipe]
    for run in runs:
        if run.recipe:
            _same("recipe", recipes[0], run.recipe, run.seed)
    return SeedRuns(tuple(runs), notes)


def _named(text: str) -> tuple[int | None, Path]:
    """Return the seed and path of SEED=FILE, or None and the path of FILE."""
    head, equals, tail = text.partition("=")
    if equals and head.isascii() and head.isdigit():
        return int(head[:30]), Path(tail)
    return None, Path(text)


def _seed(given: int | None, stated: object, path: Path) -> int:
    if stated is not None and given is not None and stated != given:
        raise BadSubmission(f"{path}: another seed", expected=given, found=repr(stated)[:40])
    seed = given if given is not None else stated
    if seed is None:
        raise BadSubmission(
            f"{path}: does not say its seed", fix=f"Give it as --seed-run SEED={path.name}."
        )
    return check_seed(seed, str(path))


def check_seed(seed: object, what: str) -> int:
    """Return the seed. Raises BadSubmission for anything but a whole number below 2^63."""
    if not isinstance(seed, int) or isinstance(seed, bool) or not 0 <= seed < 1 << 63:
        raise BadSubmission(f"{what}: seed", expected="a whole number", found=repr(seed)[:40])
    return seed


def _trained(run: SeedRun, training: Training | None) -> SeedRun:
    if training is None:
        return run
    _same("model", plain_values(run.report.config), training.config, run.seed)
    return SeedRun(run.seed, run.report, training.recipe, training.clock, run.code)


def _same(what: str, first: dict[str, Any], other: dict[str, Any], seed: int) -> None:
    names = sorted(n for n in first.keys() | other.keys() if first.get(n) != other.get(n))
    if names:
        raise BadSubmission(
            f"the training of seed {seed} is of another {what}",
            expected=f"{names[0]} {str(first.get(names[0]))[:60]}",
            found=f"{str(other.get(names[0]))[:60]}",
        )


def read_log(path: Path) -> dict[str, Any]:
    """Read the last line of a script's log that is a JSON object. Raises BadSubmission."""
    lines = read_plain(path, MAX_JSON).splitlines()
    last = next((line for line in reversed(lines) if line.startswith(b"{")), b"")
    facts = parse_object(last, f"{path.name}: facts of the run")
    hashes = facts.get("sha256")
    hashes = hashes if isinstance(hashes, dict) else {}
    scores = [facts.get(name) for name in ("bpb", "nats", "tokens", "bytes")]
    sections = [facts.get(name, {}) for name in ("config", "recipe")]
    if (
        not all(map(is_number, scores))
        or not all(isinstance(n, int) and 0 < n < 1 << 60 for n in scores[2:])
        or not all(isinstance(hashes.get(name), str) for name in (CODE, MODEL))
        or not all(isinstance(section, dict) for section in sections)
        or not isinstance(facts.get("mode"), str)
    ):
        raise BadSubmission(
            f"{path}: does not end with the facts of the run",
            expected="bpb, nats, tokens, bytes, mode, and sha256 of train_gpt.py and model.sqz",
        )
    return facts


def _report(facts: dict[str, Any]) -> EvalReport:
    """Return a log's last line in the form of a report of `squeeze eval`."""
    return EvalReport(
        nats_per_token=facts["nats"] / facts["tokens"],
        bpb=facts["bpb"],
        tokens=facts["tokens"],
        bytes=facts["bytes"],
        mode=facts["mode"],
        config=facts.get("config", {}),
        sha256=Hashes(facts["sha256"][MODEL], None, []),
    )


def _one_configuration(stated: Sequence[dict[str, Any]]) -> None:
    """Check logs. Raises BadData for other scripts or other scores, and for one model twice."""
    first = stated[0]
    for other in stated[1:]:
        names = [name for name in SAME if first.get(name) != other.get(name)]
        if first["sha256"][CODE] != other["sha256"][CODE]:
            names.append(f"sha256 of {CODE}")
        if names:
            raise BadData("these are not seeds of one configuration", found=f"other {names[0]}")
    models = [facts["sha256"][MODEL] for facts in stated]
    if len(set(models)) < len(models):
        raise BadData("the same model twice is one seed", expected="another model in each log")


def read_training(path: Path) -> Training:
    """Read a report of `squeeze train --json`, or a checkpoint that holds its recipe.

    Raises BadSubmission.
    """
    if path.suffix == ".safetensors":
        return _checkpoint(path)
    report = read_object(path)
    config, recipe = report.get("config"), report.get("recipe")
    if not isinstance(config, dict) or not isinstance(recipe, dict):
        raise BadSubmission(
            f"{path}: not a report of a training", expected="what `squeeze train --json` prints"
        )
    seed = check_seed(report.get("seed"), str(path))
    return Training(config, recipe, seed, read_clock(report.get("clock"), str(path)))


def _checkpoint(path: Path) -> Training:
    read_plain(path)  # no link or pipe
    stated = read_metadata(path)
    if CONFIG_KEY not in stated or RECIPE_KEY not in stated:
        raise BadSubmission(f"{path}: does not say how it was trained")
    config = ModelConfig.from_json(stated[CONFIG_KEY])
    recipe = Recipe.from_json(stated[RECIPE_KEY])
    return Training(plain_values(asdict(config)), plain_values(asdict(recipe)))


def read_clock(rows: object, what: str) -> Clock:
    """Read rows of a clock ledger. Raises BadSubmission for other than stage, seconds ≥ 0, inside."""
    read_rows = []
    for row in rows if isinstance(rows, list) and 0 < len(rows) <= 1000 else [None]:
        fields = row if isinstance(row, dict) else {}
        seconds = fields.get("seconds")
        fine = isinstance(fields.get("stage"), str) and isinstance(fields.get("inside"), bool)
        if not fine or not is_number(seconds) or seconds < 0:  # type: ignore[operator]
            raise BadSubmission(
                f"{what}: clock",
                expected="a list of {stage, seconds, inside}",
                found=repr(row)[:60],
            )
        read_rows.append(dict(fields))
    return read_rows
