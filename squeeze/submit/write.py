"""The folder that is submitted: made from a model and a script, checked, run, and only then there."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from squeeze import __version__
from squeeze.files import sha256
from squeeze.ledger.attribute import attribute_paths
from squeeze.ledger.submission import CARD, CLAIMS, CODE, MODEL, REQUIREMENTS, SUMS, is_paper
from squeeze.score.audit.sandbox import Limits
from squeeze.score.modes import Mode
from squeeze.submit.card import card
from squeeze.submit.check import (
    FILES,
    LIMITS,
    Checked,
    OnStage,
    check_shipped,
    check_submission,
    silent,
    sums,
)
from squeeze.submit.claims import About, check_command, config_sha256
from squeeze.submit.folder import built_folder, check_target
from squeeze.submit.imports import imports_of_script, requirements
from squeeze.submit.parent import Config, config_of_model, read_parent
from squeeze.submit.plain import BadSubmission, read_plain, safe_name, safe_names
from squeeze.submit.scores import read_scores
from squeeze.submit.script import check_codecs, own_script
from squeeze.views.code import TABLE, parts_csv, with_names
from squeeze.views.totals import totals

SCORER = ("python", CODE, "--serve")
EVALUATE = ("python", CODE, "--eval")


READABLE = "code.md"  # of our own script, for people


@dataclass(frozen=True)
class Parts:
    """What goes in besides the model. files: shipped under their own names; logs: papers.

    script: None: our own, for the model's configuration and recipe. seed_runs: reports of `squeeze eval
    --json`, or logs of the script, as FILE or SEED=FILE, of the model that ships and of other seeds;
    trainings: reports of `squeeze train --json`, or a checkpoint. parents: folders, submission.json or
    models. scorer, evaluate: commands of the given script; None: it has no such.
    """

    script: Path | None = None
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
    check_target(target, force)
    content = _content(model, parts)
    config = config_of_model(model, content[MODEL])
    parents = [read_parent(path) for path in parts.parents]
    scores = read_scores(
        model,
        content[MODEL],
        config["model"],
        seed_runs=parts.seed_runs,
        trainings=parts.trainings,
        tokenizer=tokenizer,
        data=data,
        mode=mode,
        on_stage=on_stage,
    )
    if scores.recipe:
        config["recipe"] = scores.recipe
    content |= _code(parts, content[MODEL], config, limit, mode, on_stage)
    if scores.code not in (None, sha256(content[CODE])):
        raise BadSubmission(
            "the seed runs were made by another train_gpt.py than ships",
            expected=scores.code,
            found=sha256(content[CODE]),
            fix="Give theirs as --script.",
        )
    content[REQUIREMENTS] = requirements(imports_of_script(content[CODE], content)).encode()
    content |= scores.files
    safe_names(content)
    claims = {
        "name": about.name,
        "author": ", ".join(about.authors),
        "github_id": about.github_id,
        "blurb": about.blurb,
        "date": about.date,
        **scores.claims,
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
    content = {MODEL: read_plain(model)}
    for path in parts.files:
        _add(content, safe_name(path.name), path)
    for path in parts.logs:  # named so that they are papers
        _add(content, safe_name(f"{path.name.removesuffix(path.suffix)}.log"), path)
    return content


def _add(content: dict[str, bytes], name: str, path: Path) -> None:
    if name in {*FILES, *content}:
        raise BadSubmission("two files of one name", found=f"{name} and {path}")
    content[name] = read_plain(path)


def _code(
    parts: Parts, model: bytes, config: Config, limit: int, mode: Mode, on_stage: OnStage
) -> dict[str, bytes]:
    """The given script, or the bundle of our own for this model and recipe with what its parts cost."""
    if parts.script is not None:
        return {CODE: read_plain(parts.script)}
    if "recipe" not in config:
        raise BadSubmission(
            "the script of squeeze trains the model too, but nothing says how it was trained",
            fix="Give --train-run (report or checkpoint of `squeeze train`), or your own --script.",
        )
    check_codecs(model)
    on_stage("bundle")
    made = own_script(config["model"], config["recipe"], limit, mode)
    readable = (
        f"# Source of {CODE}\n\nGenerated by squeeze; `{CODE}` holds this program, minified.\n\n"
        f"~~~~python\n{made.readable}~~~~\n"
    )
    return {
        CODE: made.shipped.data,
        TABLE: parts_csv(made.parts).encode(),
        READABLE: readable.encode(),
    }


def _commands(parts: Parts) -> dict[str, list[str]]:
    named: dict[str, Sequence[str] | None]
    named = {"scorer": parts.scorer, "evaluate": parts.evaluate}
    if parts.script is None:
        named = {"scorer": SCORER, "evaluate": EVALUATE}
    stated = {name: list(command) for name, command in named.items() if command}
    for name, command in stated.items():
        check_command(command, name)
    return stated


def _fill(folder: Path, content: Mapping[str, bytes], claims: dict[str, Any], limit: int) -> None:
    """Write the files, then what can only be said of files that are there."""
    for name, data in content.items():
        (folder / name).write_bytes(data)
    counted = totals(folder)
    check_shipped(counted, limit)
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
    ships = [folder / name for name in sorted(content) if not is_paper(name)]
    rows = with_names(attribute_paths(ships), [folder], None)
    page = card(claims, rows, counted).encode()
    papers = {CLAIMS: _json(claims), CARD: page}
    for name, data in {**papers, SUMS: sums({**content, **papers})}.items():
        (folder / name).write_bytes(data)


def _json(value: Mapping[str, Any]) -> bytes:
    return (json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode()
