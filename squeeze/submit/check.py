"""Check of a submission folder against its papers: files, fields, hashes, size, and its score."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from squeeze.artifact import container
from squeeze.artifact.facts import tokenizer_of_artifact
from squeeze.files import file_sha256, scratch_folder, sha256
from squeeze.ledger.gate import check_limit
from squeeze.ledger.submission import CARD, CLAIMS, CODE, MODEL, REQUIREMENTS, SUMS
from squeeze.reporter import SILENT, Reporter
from squeeze.score.box.sandbox import Limits
from squeeze.score.evaluate import EvalOptions, evaluate
from squeeze.score.identity import named_tokenizers, tokenizer_notes
from squeeze.score.report import EvalReport
from squeeze.submit.claims import check_fields, claimed_mode, config_sha256
from squeeze.submit.imports import check_requirements, imports_of_script
from squeeze.submit.parent import config_of_model
from squeeze.submit.plain import BadSubmission, plain_files, read_object, read_plain
from squeeze.submit.run import Run, Span, run_submission
from squeeze.train.data.shards import read_shards, shard_length, write_shard
from squeeze.views.totals import Totals, totals

FILES = (CODE, MODEL, CARD, CLAIMS, REQUIREMENTS, SUMS)
SAME = 1e-6  # bits per byte between a submission's own score and that of `squeeze eval`
CLAIM_NOISE = 1e-3  # bits per byte between a stated score and the same text scored here
PROSE = {"name", "author", "authors", "github_id", "blurb", "assistance", "parents"}
LIMITS = Limits(report_seconds=600.0)


@dataclass(frozen=True)
class Inputs:
    """Inputs of a score: the tokenizer, and validation shards in their order.

    other_tokenizer: take another tokenizer than that of model and data; the score says so
    """

    tokenizer: Path
    data: Sequence[Path]
    other_tokenizer: bool = False

    def identity(self, model: bytes) -> list[str]:
        """Return sentences on the tokenizer's identity for a model's file.

        Raises BadData for another tokenizer.
        """
        named = named_tokenizers(tokenizer_of_artifact(model), self.data)
        return tokenizer_notes(file_sha256(self.tokenizer), named, self.other_tokenizer)


@dataclass(frozen=True)
class CheckOptions:
    """Options of a check.

    tokens: targets of each run, the first of the data
    limit: bytes of the files that ship; None: the limit that submission.json states
    limits: of each run; report_seconds in all
    """

    tokens: int = 8192
    limit: int | None = None
    limits: Limits = LIMITS


@dataclass(frozen=True)
class Checked:
    """A submission that passed its check.

    bpb: of `squeeze eval` on the first `targets` of `available` targets
    runs: of the submission's own code on the same targets
    """

    folder: Path
    claims: dict[str, Any]
    totals: Totals
    targets: int
    available: int
    bpb: float
    runs: tuple[Run, ...]

    def as_json(self) -> dict[str, Any]:
        """Return plain values for `--json`."""
        limit = self.claims["limit"]
        return {
            "folder": str(self.folder),
            "submission": self.claims,
            "totals": self.totals.as_json(limit),
            "checked": {
                "targets": self.targets,
                "available_targets": self.available,
                "bpb": self.bpb,
                "runs": [asdict(run) for run in self.runs],
            },
        }


def check_submission(
    folder: Path,
    inputs: Inputs,
    options: CheckOptions = CheckOptions(),
    reporter: Reporter = SILENT,
) -> Checked:
    """Check papers, then run the folder on the first `options.tokens` targets and compare scores.

    inputs: those whose hashes submission.json states

    Raises BadSubmission for the first thing that is wrong, OverBudget.
    """
    folder = folder.resolve() if not folder.is_symlink() else folder
    with reporter.stage("papers"):
        claims, counted = check_papers(folder, options.limit)
    with reporter.stage("hashes of the data"):
        check_inputs(claims, inputs)
        inputs.identity(read_plain(folder / MODEL))
    targets, available, bpb, runs = _run(folder, claims, inputs, options, reporter)
    return Checked(folder, claims, counted, targets, available, bpb, runs)


def check_papers(folder: Path, limit: int | None = None) -> tuple[dict[str, Any], Totals]:
    """Check all that needs no run; return submission.json and the three byte counts."""
    files = plain_files(folder)
    missing = [name for name in FILES if name not in files]
    if missing:
        raise BadSubmission(f"{folder}: incomplete", found=f"no {', '.join(missing)}")
    claims = read_object(folder / CLAIMS)
    check_fields(claims)
    for where, text in _strings(claims):
        if text.startswith(("/", "~/", "../", "\\")) or text[1:3] == ":\\" or "/../" in text:
            raise BadSubmission(f"{CLAIMS}: {where} is a path of a machine", found=repr(text)[:80])
    content = {name: read_plain(folder / name) for name in files}
    _check_hashes(claims, content)
    _check_model(claims, folder, content[MODEL])
    _check_seed_files(claims, folder, files)
    imports = imports_of_script(content[CODE], files)
    check_requirements(content[REQUIREMENTS].decode("utf-8", "replace"), imports)
    counted = totals(folder)
    _check_counts(claims, counted, content)
    check_size(counted.shipped_bytes, claims["limit"] if limit is None else limit)
    return claims, counted


def check_size(shipped: int, limit: int) -> None:
    """Raise OverBudget when the files that ship are larger than `limit`, both in bytes."""
    check_limit(shipped, limit, f"Pack with `squeeze pack --limit {limit} --code {CODE}`.")


def check_inputs(claims: Mapping[str, Any], inputs: Inputs) -> None:
    """Raise BadSubmission when tokenizer or data are not those of the stated score."""
    hashes = {
        "tokenizer": file_sha256(inputs.tokenizer),
        "data": [file_sha256(path) for path in inputs.data],
    }
    for name, value in hashes.items():
        if claims["sha256"].get(name) != value:
            raise BadSubmission(
                f"not the {name} of this submission",
                expected=str(claims["sha256"].get(name))[:140],
                found=str(value)[:140],
            )


def _strings(value: Any, where: str = "") -> Iterator[tuple[str, str]]:
    """Yield (place, text) for every text in JSON that is not prose, keys included."""
    if isinstance(value, str):
        yield where, value
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield where or "a field's name", key
            if where or key not in PROSE:
                yield from _strings(inner, f"{where}.{key}" if where else key)
    elif isinstance(value, list):
        for inner in value:
            yield from _strings(inner, where)


def _check_hashes(claims: Mapping[str, Any], content: Mapping[str, bytes]) -> None:
    hashes = {name: sha256(data) for name, data in content.items()}
    unhashed = {CLAIMS, CARD, SUMS}
    if claims["files"].keys() != hashes.keys() - unhashed:
        apart = sorted(claims["files"].keys() ^ (hashes.keys() - unhashed))
        raise BadSubmission(
            f"{CLAIMS}: files", expected="every file but the papers", found=", ".join(apart)[:200]
        )
    for name, row in claims["files"].items():
        if (row["bytes"], row["sha256"]) != (len(content[name]), hashes[name]):
            raise BadSubmission(
                f"{name} is not the file {CLAIMS} describes",
                expected=f"{row['bytes']} bytes, {row['sha256'][:12]}…",
                found=f"{len(content[name])} bytes, {hashes[name][:12]}…",
            )
    listed = sums({name: data for name, data in content.items() if name != SUMS})
    if content[SUMS] != listed:
        raise BadSubmission(f"{SUMS} is not that of the files", fix="Write the folder again.")
    for name, part in (("code", CODE), ("model", MODEL)):
        if claims["sha256"].get(name) != hashes[part]:
            raise BadSubmission(f"{CLAIMS}: sha256 of {name} is not that of {part}")


def sums(content: Mapping[str, bytes]) -> bytes:
    """Return the lines that `sha256sum -c` reads, by name."""
    return "".join(f"{sha256(content[name])}  {name}\n" for name in sorted(content)).encode()


def _check_model(claims: Mapping[str, Any], folder: Path, data: bytes) -> None:
    if data[:4] != container.MAGIC:
        raise BadSubmission(f"{MODEL}: no .sqz artifact", found=f"first bytes {data[:4].hex()}")
    if claims["sha256"].get("config") != config_sha256(claims["config"]):
        raise BadSubmission(f"{CLAIMS}: sha256 of config is not that of the configuration")
    if claims["config"].get("model") != config_of_model(folder / MODEL, data)["model"]:
        raise BadSubmission(f"{CLAIMS}: config.model is not that of {MODEL}")
    own = [row for row in claims["seeds"] if row.get("model") == sha256(data)]
    if not own or own[0]["val_bpb"] != claims["val_bpb"]:
        raise BadSubmission(f"{CLAIMS}: val_bpb is not that of the seed whose model ships")


def _check_seed_files(claims: Mapping[str, Any], folder: Path, files: Mapping[str, int]) -> None:
    stated = {row["seed"]: row["val_bpb"] for row in claims["seeds"]}
    for name in files:
        if name.startswith("seed") and name.endswith(".json"):
            run = read_object(folder / name)
            seed = run.get("seed")
            if not isinstance(seed, int) or stated.get(seed) != run.get("val_bpb"):
                raise BadSubmission(f"{name} is not a seed of {CLAIMS}", found=repr(seed)[:40])


def _check_counts(claims: Mapping[str, Any], counted: Totals, content: Mapping[str, bytes]) -> None:
    """Raise BadSubmission when a stated size is not that of the files."""
    sizes = {
        "bytes_total": counted.shipped.bytes,
        "bytes_code": len(content[CODE]),
        "bytes_model": len(content[MODEL]),
    }
    for name, size in sizes.items():
        if claims[name] != size:
            raise BadSubmission(f"{CLAIMS}: {name}", expected=size, found=claims[name])


def _run(
    folder: Path,
    claims: dict[str, Any],
    inputs: Inputs,
    options: CheckOptions,
    reporter: Reporter,
) -> tuple[int, int, float, tuple[Run, ...]]:
    """Return (targets, targets of all data, bits per byte of squeeze, runs of the submission)."""
    available = sum(shard_length(path) for path in inputs.data) - 1
    targets = min(options.tokens, available)
    scoring = EvalOptions(claimed_mode(claims["score"]), tokens=targets)
    with scratch_folder("squeeze-span-") as scratch:
        span = Span(scratch / "span.bin", inputs.tokenizer, targets)
        write_shard(span.shard, read_shards(list(inputs.data), targets + 1))
        with reporter.stage("squeeze eval") as stage:
            report = evaluate(folder / MODEL, inputs.tokenizer, [span.shard], scoring, stage)
        _check_stated(claims, report, targets == available)
        runs = []
        for way in ("evaluate", "scorer"):
            if way in claims:
                with reporter.stage(f"{way} in a fresh process"):
                    run = run_submission(folder, way, claims[way], span, options.limits)
                _compare(run, report.bpb, targets)
                runs.append(run)
    return targets, available, report.bpb, tuple(runs)


def _compare(run: Run, bpb: float, targets: int) -> None:
    if not abs(run.bpb - bpb) <= SAME:
        raise BadSubmission(
            f"`{' '.join(run.command)}` gives another score than squeeze eval on {targets:,} targets",
            expected=f"{bpb:.9f} ± {SAME:g} bits per byte",
            found=f"{run.bpb:.9f}",
        )


def _check_stated(claims: Mapping[str, Any], report: EvalReport, whole: bool) -> None:
    same = claims["score"].get("tokens") == report.tokens
    if whole and same and abs(report.bpb - claims["val_bpb"]) > CLAIM_NOISE:
        raise BadSubmission(
            f"{CLAIMS}: val_bpb", expected=f"{report.bpb:.6f}", found=f"{claims['val_bpb']:.6f}"
        )
