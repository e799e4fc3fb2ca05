"""A submission folder, made from a model and a script; it appears after it was checked and run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePath
from typing import Any

from squeeze import __version__
from squeeze.bundle.verify import Check
from squeeze.files import sha256
from squeeze.ledger.attribute import attribute_paths
from squeeze.ledger.submission import CARD, CLAIMS, CODE, MODEL, REQUIREMENTS, SUMS, is_paper
from squeeze.reporter import SILENT, Reporter
from squeeze.score.box.sandbox import Limits
from squeeze.score.modes import Mode
from squeeze.submit.card import card
from squeeze.submit.check import (
    FILES,
    LIMITS,
    Checked,
    CheckOptions,
    Inputs,
    check_size,
    check_submission,
    sums,
)
from squeeze.submit.claims import check_command, config_sha256
from squeeze.submit.folder import built_folder, check_target
from squeeze.submit.imports import imports_of_script, requirements
from squeeze.submit.parent import Config, config_of_model, read_parent
from squeeze.submit.parts import EVALUATE, SCORER, Parts
from squeeze.submit.plain import BadSubmission, json_bytes, read_plain, safe_name, safe_names
from squeeze.submit.scores import Scores, ShippedModel, read_runs, read_scores
from squeeze.submit.script import check_codecs, own_script, specialised, verify_script
from squeeze.views.code import TABLE, parts_csv, with_names
from squeeze.views.totals import totals

READABLE = "code.md"  # of our own script, for people
VERIFIED = 512  # tokens that it scores beside the program it is a bundle of


@dataclass(frozen=True)
class WriteOptions:
    """Options of a submission that is written.

    mode: of its score
    limit: bytes of the files that ship
    tokens, limits: targets and limits of the check's runs (`CheckOptions`)
    force: replace a submission
    """

    mode: Mode = field(default_factory=Mode)
    limit: int = 16_000_000
    tokens: int = 8192
    limits: Limits = LIMITS
    force: bool = False

    @property
    def check(self) -> CheckOptions:
        """Options of the check."""
        return CheckOptions(self.tokens, self.limit, self.limits)


def write_submission(
    target: Path,
    parts: Parts,
    inputs: Inputs,
    options: WriteOptions = WriteOptions(),
    reporter: Reporter = SILENT,
) -> Checked:
    """Write a submission folder, which appears whole and checked, or not at all.

    Without seed runs the model is scored on all of the data. Raises BadSubmission for the first
    thing that is wrong, OverBudget.
    """
    check_target(target, options.force)
    content = _content(parts)
    inputs.identity(content[MODEL])
    config = config_of_model(parts.model, content[MODEL])
    model = ShippedModel(sha256(content[MODEL]), config["model"])
    parents = [read_parent(path) for path in parts.parents]
    # bundle, its comparison, scores, folder, checks: what takes longest comes when all else is right
    total = 5 if parts.script is None else 4
    with reporter.stage("submission", total, "steps") as steps:
        runs = read_runs(parts, model, inputs, options.mode, steps)
        if runs.recipe:
            config["recipe"] = runs.recipe
        with steps.stage("bundle"):
            content |= _code(parts, content[MODEL], config, options)
        steps.advance()
        if parts.script is None:
            with steps.stage("bundle beside its source"):
                _verify(content, config, inputs, options)
            steps.advance()
        if runs.code not in (None, sha256(content[CODE])):
            raise BadSubmission(
                "the seed runs were made by another train_gpt.py than ships",
                expected=runs.code,
                found=sha256(content[CODE]),
                fix="Give theirs as --script.",
            )
        content[REQUIREMENTS] = requirements(imports_of_script(content[CODE], content)).encode()
        safe_names(content)
        check_size(sum(len(content[name]) for name in content if not is_paper(name)), options.limit)
        scores = read_scores(runs, parts, model, inputs, options.mode, steps)
        steps.advance()
        content |= scores.files
        safe_names(content)
        claims = _claims(parts, scores, config)
        claims["parents"] = [parent.as_json(config) for parent in parents]
        with built_folder(target, options.force) as folder:
            with steps.stage("folder"):
                _fill(folder, content, claims, options.limit)
            steps.advance()
            checked = check_submission(folder, inputs, options.check, steps)
            steps.advance()
    return replace(checked, folder=target)


def _claims(parts: Parts, scores: Scores, config: Config) -> dict[str, Any]:
    """Return the fields of submission.json that do not depend on the files."""
    about = parts.about
    claims: dict[str, Any] = {
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
        "parents": [],
        "squeeze": __version__,
    }
    claims["sha256"]["config"] = config_sha256(config)
    return claims


def _content(parts: Parts) -> dict[str, bytes]:
    """Return files by the names they get. Raises BadSubmission for links, devices, names that clash."""
    content = {MODEL: read_plain(parts.model)}
    for path in parts.files:
        _add(content, safe_name(path.name), path)
    for path in parts.logs:  # named so that they are papers
        _add(content, safe_name(f"{path.name.removesuffix(path.suffix)}.log"), path)
    return content


def _add(content: dict[str, bytes], name: str, path: Path) -> None:
    if name in {*FILES, *content}:
        raise BadSubmission("two files of one name", found=f"{name} and {path}")
    content[name] = read_plain(path)


def _code(parts: Parts, model: bytes, config: Config, options: WriteOptions) -> dict[str, bytes]:
    """Return the given script, or the bundle of our own for this model with the cost of its parts."""
    if parts.script is not None:
        return {CODE: read_plain(parts.script)}
    if "recipe" not in config:
        raise BadSubmission(
            "the script of squeeze trains the model too, but nothing says how it was trained",
            fix="Give --train-run (report or checkpoint of `squeeze train`), or your own --script.",
        )
    check_codecs(model)
    script = own_script(config["model"], config["recipe"], options.limit, options.mode)
    readable = (
        f"# Source of {CODE}\n\nGenerated by squeeze; `{CODE}` holds this program, minified.\n\n"
        f"~~~~python\n{script.readable}~~~~\n"
    )
    return {
        CODE: script.shipped.data,
        TABLE: parts_csv(script.parts).encode(),
        READABLE: readable.encode(),
    }


def _verify(
    content: Mapping[str, bytes], config: Config, inputs: Inputs, options: WriteOptions
) -> None:
    """Let our own script and the program that it is a bundle of score the model on a few tokens.

    Raises BundleError unless they print and write the same.
    """
    source = specialised(config["model"], config["recipe"], options.limit, options.mode)
    words = [
        *("--val", str(inputs.data[0].resolve())),
        *("--tokenizer", str(inputs.tokenizer.resolve())),
        *("--tokens", str(min(options.tokens, VERIFIED))),
        "--eval",
    ]
    seconds = options.limits.report_seconds
    check = Check(tuple(words), timeout=seconds, beside={MODEL: content[MODEL]})
    verify_script(source, content[CODE], check)


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
    """Write the files, then the papers, which state facts of files that are there."""
    for name, data in content.items():
        (folder / name).write_bytes(data)
    counted = totals(folder)
    check_size(counted.shipped_bytes, limit)
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
    about = {PurePath(name).name for name in counted.papers}
    ships = [folder / name for name in sorted(content) if name not in about]
    rows = with_names(attribute_paths(ships), [folder], None)
    page = card(claims, rows, counted).encode()
    papers = {CLAIMS: json_bytes(claims), CARD: page}
    for name, data in {**papers, SUMS: sums({**content, **papers})}.items():
        (folder / name).write_bytes(data)
