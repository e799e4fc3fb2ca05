"""The folder that is submitted: made from a model and a script, checked, run, and only then there."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from squeeze.budget import ledger
from squeeze.files import sha256
from squeeze.score.audit.sandbox import Limits
from squeeze.score.modes import Mode
from squeeze.submit.card import card
from squeeze.submit.check import (
    CARD,
    CODE,
    FILES,
    LIMITS,
    MODEL,
    PAPER,
    REQUIREMENTS,
    SUMS,
    Checked,
    OnStage,
    check_limit,
    check_submission,
    silent,
    sums,
)
from squeeze.submit.claims import About, check_command, config_sha256, mode_claims, seed_rows
from squeeze.submit.folder import built_folder
from squeeze.submit.imports import imports_of_script, requirements
from squeeze.submit.parent import Config, config_of_model, read_parent
from squeeze.submit.plain import BadSubmission, read_plain, safe_name, safe_names
from squeeze.submit.seeds import SeedRuns, data_hashes, read_seed_runs, read_training
from squeeze.version import __version__
from squeeze.views.totals import totals

SCORER = ("python", CODE, "--serve")


@dataclass(frozen=True)
class Parts:
    """What goes in besides the model. files: shipped under their own names; logs: papers.

    seed_runs: reports of `squeeze eval --json`, as FILE or SEED=FILE, of the model that ships and of
    other seeds; trainings: reports of `squeeze train --json`. parents: folders, submission.json or
    models. scorer, evaluate: commands of the script; None: it has no such.
    """

    script: Path
    files: Sequence[Path] = ()
    logs: Sequence[Path] = ()
    seed_runs: Sequence[str] = ()
    trainings: Sequence[Path] = ()
    parents: Sequence[Path] = ()
    scorer: Sequence[str] | None = SCORER
    evaluate: Sequence[str] | None = None


def write_submission(
    target: Path,
    model: Path,
    parts: Parts,
    about: About,
    *,
    tokenizer: Path,
    data: Sequence[Path],
    mode: Mode | None = None,
    tokens: int = 8192,
    limit: int = 16_000_000,
    force: bool = False,
    limits: Limits = LIMITS,
    on_stage: OnStage = silent,
) -> Checked:
    """Write a submission folder, which appears whole and checked, or not at all.

    Without seed runs the model is scored on all of data first. tokens: targets of the check's runs.
    force: replace a submission. Raises BadSubmission naming what is wrong, OverBudget.
    """
    mode = Mode() if mode is None else mode
    content = _content(model, parts)
    config = config_of_model(model, content[MODEL])
    parents = [read_parent(path) for path in parts.parents]
    claims, seed_files = _scores(
        model, content[MODEL], parts, tokenizer, data, mode, config, on_stage
    )
    content |= seed_files
    safe_names(content)
    claims = {
        "name": about.name,
        "author": ", ".join(about.authors),
        "github_id": about.github_id,
        "blurb": about.blurb,
        "date": about.date,
        **claims,
        **_commands(parts),
        "config": config,
        "authors": list(about.authors),
        "assistance": list(about.assistance),
        "parents": [parent.as_json(config) for parent in parents],
        "squeeze": __version__,
    }
    claims["sha256"]["config"] = config_sha256(config)
    on_stage("folder")
    with built_folder(target, force) as folder:
        _fill(folder, content, claims, limit)
        checked = check_submission(
            folder,
            tokenizer=tokenizer,
            data=data,
            tokens=tokens,
            limit=limit,
            limits=limits,
            on_stage=on_stage,
        )
    return replace(checked, folder=target)


def _content(model: Path, parts: Parts) -> dict[str, bytes]:
    """Files by the names they get. Raises BadSubmission for links, devices, and names that clash."""
    content = {CODE: read_plain(parts.script), MODEL: read_plain(model)}
    for path in parts.files:
        _add(content, safe_name(path.name), path)
    for path in parts.logs:  # named so that they are papers
        _add(content, safe_name(f"{path.name.removesuffix(path.suffix)}.log"), path)
    beside = [name for name in content if name not in (CODE, MODEL)]
    content[REQUIREMENTS] = requirements(imports_of_script(content[CODE], beside)).encode()
    return content


def _add(content: dict[str, bytes], name: str, path: Path) -> None:
    if name in {*FILES, *content}:
        raise BadSubmission("two files of one name", found=f"{name} and {path}")
    content[name] = read_plain(path)


def _commands(parts: Parts) -> dict[str, list[str]]:
    named = {"scorer": parts.scorer, "evaluate": parts.evaluate}
    stated = {name: list(command) for name, command in named.items() if command}
    for name, command in stated.items():
        check_command(command, name)
    return stated


def _scores(
    model: Path,
    model_data: bytes,
    parts: Parts,
    tokenizer: Path,
    data: Sequence[Path],
    mode: Mode,
    config: Config,
    on_stage: OnStage,
) -> tuple[dict[str, Any], dict[str, bytes]]:
    """(fields of submission.json on scores, seeds and clock, seed….json by name).

    A recipe that the trainings tell is added to `config`.
    """
    claims: dict[str, Any] = {}
    rows: list[tuple[int | None, float, float, str]]
    if parts.seed_runs:
        on_stage("seed runs")
        runs = read_seed_runs(parts.seed_runs, parts.trainings)
        own = runs.of_model(sha256(model_data))
        report, training = own.report, own.training
        _check_report(report, mode, tokenizer, data)
        rows = [
            (r.seed, r.report["bpb"], r.report["nats_per_token"], r.report["sha256"]["model"])
            for r in runs.runs
        ]
        files = {f"seed{run.seed}.json": _json(run.as_json()) for run in runs.runs}
        claims |= _means(runs)
    else:
        from squeeze.score.evaluate import evaluate

        if len(parts.trainings) > 1:
            raise BadSubmission("trainings of several seeds", fix="Give their --seed-run too.")
        training = read_training(parts.trainings[0]) if parts.trainings else None
        update = on_stage("score of all data")
        report = evaluate(model, tokenizer, list(data), mode=mode, on_progress=update)
        seed = None if training is None else training.seed
        rows = [(seed, report["bpb"], report["nats_per_token"], report["sha256"]["model"])]
        files = {}
    hashes = report["sha256"]
    claims |= {
        "val_bpb": report["bpb"],
        "val_loss": report["nats_per_token"],
        "score": {
            **mode_claims(mode),
            **{key: report.get(key) for key in ("tokens", "bytes", "official", "partial")},
        },
        "seeds": seed_rows(rows),
        "sha256": {
            "model": sha256(model_data),
            "tokenizer": hashes["tokenizer"],
            "data": data_hashes(hashes["data"]),
            "squeeze": hashes.get("code"),
        },
        "versions": report.get("versions", {}),
    }
    if not report.get("partial") and not mode.by_document:
        claims |= {"val_tokens": report["tokens"], "val_bytes": report["bytes"]}
    if training is not None:
        if training.config != config["model"]:
            raise BadSubmission("the training is of another model than the one that ships")
        config["recipe"] = training.recipe
        inside = sum(row["seconds"] for row in training.clock if row["inside"])
        claims |= {"clock": training.clock, "training_seconds": inside}
    return claims, files


def _means(runs: SeedRuns) -> dict[str, float]:
    """Mean and standard deviation of both metrics, where there is more than one seed."""
    found: dict[str, float] = {}
    for name, metric in (("val_bpb", "bpb"), ("val_loss", "nats_per_token")):
        spread = runs.spread(metric)
        if spread.sd is not None:
            found |= {f"{name}_mean": spread.mean, f"{name}_std": spread.sd}
    return found


def _check_report(
    report: Mapping[str, Any], mode: Mode, tokenizer: Path, data: Sequence[Path]
) -> None:
    """Raises BadSubmission unless a report is of this mode, tokenizer and data."""
    from squeeze.score.provenance import file_sha256

    facts = {
        "mode": (report["mode"], mode.name),
        "options": (
            json.loads(json.dumps(report["options"])),
            json.loads(json.dumps(mode.options(int(report["config"].get("seq_len", 0))))),
        ),
        "tokenizer": (report["sha256"]["tokenizer"], file_sha256(tokenizer)),
        "data": (data_hashes(report["sha256"]["data"]), [file_sha256(path) for path in data]),
    }
    for name, (stated, given) in facts.items():
        if stated != given:
            raise BadSubmission(
                f"the seed runs are of another {name}",
                expected=str(given)[:140],
                found=str(stated)[:140],
                fix="Give the --mode, --tokenizer and --data of `squeeze eval`, shards in its order.",
            )


def _fill(folder: Path, content: Mapping[str, bytes], claims: dict[str, Any], limit: int) -> None:
    """Write the files, then what can only be said of files that are there."""
    for name, data in content.items():
        (folder / name).write_bytes(data)
    counted = totals(folder)
    check_limit(counted, limit)
    claims |= {
        "bytes_total": counted.shipped.bytes,
        "bytes_code": len(content[CODE]),
        "bytes_model": len(content[MODEL]),
        "limit": limit,
        "totals": {name: total.bytes for name, total in counted.named().items()},
        "files": {
            name: {"bytes": len(content[name]), "sha256": sha256(content[name])}
            for name in sorted(content)
        },
    }
    claims["sha256"]["code"] = sha256(content[CODE])
    page = card(claims, ledger([folder / CODE, folder / MODEL]), counted).encode()
    papers = {PAPER: _json(claims), CARD: page}
    for name, data in {**papers, SUMS: sums({**content, **papers})}.items():
        (folder / name).write_bytes(data)


def _json(value: Mapping[str, Any]) -> bytes:
    return (json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode()
