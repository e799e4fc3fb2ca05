"""Statements of a submission about its score: from given reports, or by scoring the model."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from squeeze.files import file_sha256
from squeeze.reporter import Reporter
from squeeze.score.evaluate import EvalOptions, evaluate
from squeeze.score.identity import other_tokenizers
from squeeze.score.modes import Mode
from squeeze.score.report import EvalReport
from squeeze.submit.check import CLAIM_NOISE, Inputs
from squeeze.submit.claims import mode_claims
from squeeze.submit.parts import Parts
from squeeze.submit.plain import BadSubmission, json_bytes
from squeeze.submit.seeds import SeedRun, SeedRuns, Training, read_seed_runs, read_training

METRICS = (("val_bpb", "bpb"), ("val_loss", "nats_per_token"))


@dataclass(frozen=True)
class ShippedModel:
    """The model that ships: SHA-256 of its file, and its configuration."""

    sha256: str
    config: Mapping[str, Any]


@dataclass(frozen=True)
class Scores:
    """Scores of a submission as its papers state them.

    claims: fields of submission.json
    files: seed….json by name
    """

    claims: dict[str, Any]
    files: dict[str, bytes]


@dataclass(frozen=True)
class Runs:
    """Reports that a submission is made of, before anything is scored.

    recipe: of the training; {}: unknown
    seeds, own: the seed runs, and that of the model that ships; None: none are given
    training: of the model that ships, where no seed run is given
    """

    recipe: dict[str, Any]
    seeds: SeedRuns | None = None
    own: SeedRun | None = None
    training: Training | None = None

    @property
    def code(self) -> str | None:
        """SHA-256 of the script that must ship, where its own log is the evidence."""
        return None if self.own is None else self.own.code


def read_runs(
    parts: Parts, model: ShippedModel, inputs: Inputs, mode: Mode, reporter: Reporter
) -> Runs:
    """Read the reports that are given; nothing is scored.

    Raises BadSubmission for reports of another model, other data or another mode.
    """
    if parts.seed_runs:
        with reporter.stage("seed runs"):
            runs = read_seed_runs(parts.seed_runs, parts.trainings)
        own = runs.of_model(model.sha256)
        if own.code is None:
            _check_report(own.report, mode, inputs)
        return Runs(own.recipe, runs, own)
    if len(parts.trainings) > 1:
        raise BadSubmission("trainings of several seeds", fix="Give their --seed-run too.")
    if not parts.trainings:
        return Runs({})
    training = read_training(parts.trainings[0])
    if training.config != model.config:
        raise BadSubmission("the training is of another model than the one that ships")
    return Runs(training.recipe, training=training)


def read_scores(
    given: Runs, parts: Parts, model: ShippedModel, inputs: Inputs, mode: Mode, reporter: Reporter
) -> Scores:
    """Return the scores of the model that ships and of its other seeds.

    Scores the model on all of the data unless a report of `squeeze eval` does. Raises BadSubmission for
    a log of another score.
    """
    own, runs = given.own, given.seeds
    if own is None:
        report = _evaluate(parts.model, inputs, mode, reporter)
        own = _single_run(report, given.training)
    elif own.code is None:
        report = own.report
    else:  # a log, which does not state its data
        report = _evaluate(parts.model, inputs, mode, reporter)
        _check_log(own, report, mode)
    claims = _claims(report, own, mode, model.sha256)
    claims["seeds"] = [_row(run) for run in (runs.runs if runs else (own,))]
    if runs is None:
        return Scores(claims, {})
    claims |= _means(runs)
    files = {f"seed{run.seed}.json": json_bytes(run.as_json()) for run in runs.runs}
    return Scores(claims, files)


def _single_run(report: EvalReport, training: Training | None) -> SeedRun:
    """Return the run of the model that ships, with its training where a report of one is given."""
    if training is None:
        return SeedRun(-1, report)
    seed = -1 if training.seed is None else training.seed
    return SeedRun(seed, report, training.recipe, training.clock)


def _evaluate(model: Path, inputs: Inputs, mode: Mode, reporter: Reporter) -> EvalReport:
    """Score the model on all of the data."""
    with reporter.stage("score of all data") as stage:
        options = EvalOptions(mode, other_tokenizer=inputs.other_tokenizer)
        return evaluate(model, inputs.tokenizer, inputs.data, options, stage)


def _claims(report: EvalReport, own: SeedRun, mode: Mode, model: str) -> dict[str, Any]:
    claims: dict[str, Any] = {
        **{name: own.report.metric(metric) for name, metric in METRICS},
        "score": {
            **mode_claims(mode),
            "tokens": report.tokens,
            "bytes": report.bytes,
            "official": report.official,
            "partial": report.partial,
            **({"notes": others} if (others := other_tokenizers(report.notes)) else {}),
        },
        "sha256": {
            "model": model,
            "tokenizer": report.sha256.tokenizer,
            "data": report.sha256.shards,
            "squeeze": report.sha256.code,
        },
        "versions": report.versions or {},
    }
    if not report.partial and not mode.facts.by_document:
        claims |= {"val_tokens": report.tokens, "val_bytes": report.bytes}
    if own.clock is not None:
        inside = sum(row["seconds"] for row in own.clock if row["inside"])
        claims |= {"clock": own.clock, "training_seconds": inside}
    return claims


def _row(run: SeedRun) -> dict[str, Any]:
    """Return an entry of `seeds`, whose seed is None where it is unknown."""
    return {
        "seed": None if run.seed < 0 else run.seed,
        **{name: run.report.metric(metric) for name, metric in METRICS},
        "model": run.report.sha256.model,
    }


def _means(runs: SeedRuns) -> dict[str, float]:
    """Return mean and standard deviation of both metrics; {} for a single seed."""
    means: dict[str, float] = {}
    for name, metric in METRICS:
        spread = runs.spread(metric)
        if spread.sd is not None:
            means |= {f"{name}_mean": spread.mean, f"{name}_std": spread.sd}
    return means


def _check_report(report: EvalReport, mode: Mode, inputs: Inputs) -> None:
    """Raise BadSubmission unless a report is of this mode and these inputs."""
    options = asdict(mode.options(int(report.config.get("seq_len", 0))))
    facts = {
        "mode": (report.mode, mode.name),
        "precision": (report.precision, "fp32"),
        "options": tuple(json.loads(json.dumps(o)) for o in (report.options, options)),
        "tokenizer": (report.sha256.tokenizer, file_sha256(inputs.tokenizer)),
        "data": (report.sha256.shards, [file_sha256(path) for path in inputs.data]),
    }
    for name, (stated, own) in facts.items():
        if stated != own:
            raise BadSubmission(
                f"the seed runs are of another {name}",
                expected=str(own)[:140],
                found=str(stated)[:140],
                fix="Give the --mode, --tokenizer and --val of `squeeze eval`, shards in its order.",
            )


def _check_log(own: SeedRun, report: EvalReport, mode: Mode) -> None:
    """Raise BadSubmission unless a log's score is that of the model on the given data."""
    facts = {
        "mode": (own.report.mode, mode.name),
        "tokens": (own.report.tokens, report.tokens),
        "bytes": (own.report.bytes, report.bytes),
    }
    for name, (stated, ours) in facts.items():
        if stated != ours:
            raise BadSubmission(f"the log of seed {own.seed}: {name}", expected=ours, found=stated)
    if abs(own.report.bpb - report.bpb) > CLAIM_NOISE:
        raise BadSubmission(
            f"the log of seed {own.seed}: bits per byte",
            expected=f"{report.bpb:.6f}",
            found=f"{own.report.bpb:.6f}",
        )
