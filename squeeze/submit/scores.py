"""What a submission says of its score: from reports that were given, or by scoring the model."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from squeeze.files import sha256
from squeeze.score.modes import Mode
from squeeze.score.report import EvalReport
from squeeze.submit.check import CLAIM_NOISE, OnStage
from squeeze.submit.claims import mode_claims
from squeeze.submit.plain import BadSubmission
from squeeze.submit.seeds import (
    SeedRun,
    SeedRuns,
    read_seed_runs,
    read_training,
)

METRICS = (("val_bpb", "bpb"), ("val_loss", "nats_per_token"))


@dataclass(frozen=True)
class Scores:
    """claims: fields of submission.json; files: seed….json by name. recipe: {} where nothing tells it.

    code: SHA-256 of the script that must ship, where its own log is the evidence.
    """

    claims: dict[str, Any]
    files: dict[str, bytes]
    recipe: dict[str, Any]
    code: str | None = None


def read_scores(
    model: Path,
    model_data: bytes,
    config: Mapping[str, Any],
    *,
    seed_runs: Sequence[str],
    trainings: Sequence[Path],
    tokenizer: Path,
    data: Sequence[Path],
    mode: Mode,
    on_stage: OnStage,
) -> Scores:
    """Scores of the model that ships and of its other seeds. config: of the model that ships.

    Scores the model on all of data unless a report of `squeeze eval` does. Raises BadSubmission for
    reports of other models, data or modes than are given.
    """
    runs = None
    if seed_runs:
        on_stage("seed runs")
        runs = read_seed_runs(seed_runs, trainings)
        own = runs.of_model(sha256(model_data))
        if own.code is None:
            _check_report(own.report, mode, tokenizer, data)
            report = own.report
        else:  # a log does not say on which data, so it is scored here as well
            report = _evaluated(model, tokenizer, data, mode, on_stage)
            _check_log(own, report, mode)
    else:
        if len(trainings) > 1:
            raise BadSubmission("trainings of several seeds", fix="Give their --seed-run too.")
        report = _evaluated(model, tokenizer, data, mode, on_stage)
        training = read_training(trainings[0]) if trainings else None
        if training is not None and training.config != config:
            raise BadSubmission("the training is of another model than the one that ships")
        seed, clock = (None, None) if training is None else (training.seed, training.clock)
        recipe = {} if training is None else training.recipe
        own = SeedRun(-1 if seed is None else seed, report, recipe, clock)
    claims = _claims(report, own, mode, sha256(model_data))
    claims["seeds"] = [_row(run) for run in (runs.runs if runs else (own,))]
    if runs is None:
        return Scores(claims, {}, own.recipe)
    claims |= _means(runs)
    files = {f"seed{run.seed}.json": _json(run.as_json()) for run in runs.runs}
    return Scores(claims, files, own.recipe, own.code)


def _evaluated(
    model: Path, tokenizer: Path, data: Sequence[Path], mode: Mode, on_stage: OnStage
) -> EvalReport:
    from squeeze.score.evaluate import EvalOptions, evaluate

    update = on_stage("score of all data")
    return evaluate(model, tokenizer, data, EvalOptions(mode), update)


def _claims(report: EvalReport, own: SeedRun, mode: Mode, model: str) -> dict[str, Any]:
    claims: dict[str, Any] = {
        **{name: own.report.metric(metric) for name, metric in METRICS},
        "score": {
            **mode_claims(mode),
            "tokens": report.tokens,
            "bytes": report.bytes,
            "official": report.official,
            "partial": report.partial,
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
    """An entry of `seeds`; seed is None where nothing tells it."""
    return {
        "seed": None if run.seed < 0 else run.seed,
        **{name: run.report.metric(metric) for name, metric in METRICS},
        "model": run.report.sha256.model,
    }


def _means(runs: SeedRuns) -> dict[str, float]:
    """Mean and standard deviation of both metrics, where there is more than one seed."""
    found: dict[str, float] = {}
    for name, metric in METRICS:
        spread = runs.spread(metric)
        if spread.sd is not None:
            found |= {f"{name}_mean": spread.mean, f"{name}_std": spread.sd}
    return found


def _check_report(report: EvalReport, mode: Mode, tokenizer: Path, data: Sequence[Path]) -> None:
    """Raises BadSubmission unless a report is of this mode, tokenizer and data."""
    from squeeze.score.provenance import file_sha256

    options = asdict(mode.options(int(report.config.get("seq_len", 0))))
    facts = {
        "mode": (report.mode, mode.name),
        "options": tuple(json.loads(json.dumps(o)) for o in (report.options, options)),
        "tokenizer": (report.sha256.tokenizer, file_sha256(tokenizer)),
        "data": (report.sha256.shards, [file_sha256(path) for path in data]),
    }
    for name, (stated, given) in facts.items():
        if stated != given:
            raise BadSubmission(
                f"the seed runs are of another {name}",
                expected=str(given)[:140],
                found=str(stated)[:140],
                fix="Give the --mode, --tokenizer and --data of `squeeze eval`, shards in its order.",
            )


def _check_log(own: SeedRun, report: EvalReport, mode: Mode) -> None:
    """Raises BadSubmission unless a log's score is that of the model on the data that is given."""
    facts = {
        "mode": (own.report.mode, mode.name),
        "tokens": (own.report.tokens, report.tokens),
        "bytes": (own.report.bytes, report.bytes),
    }
    for name, (stated, found) in facts.items():
        if stated != found:
            raise BadSubmission(f"the log of seed {own.seed}: {name}", expected=found, found=stated)
    if abs(own.report.bpb - report.bpb) > CLAIM_NOISE:
        raise BadSubmission(
            f"the log of seed {own.seed}: bits per byte",
            expected=f"{report.bpb:.6f}",
            found=f"{own.report.bpb:.6f}",
        )


def _json(value: Mapping[str, Any]) -> bytes:
    return (json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode()
