"""submission.json: the challenge's fields, and what is needed to derive them again."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from squeeze.errors import BadConfig
from squeeze.files import sha256
from squeeze.score.modes import Mode
from squeeze.submit.parent import Config
from squeeze.submit.plain import BadSubmission, is_number, is_whole, safe_name, safe_names, shown
from squeeze.submit.seeds import read_clock

# field -> (kinds, what it must be in words)
FIELDS: dict[str, tuple[tuple[type, ...], str]] = {
    "name": ((str,), "text"),
    "author": ((str,), "text"),
    "github_id": ((str,), "text"),
    "blurb": ((str,), "text"),
    "date": ((str,), "a date such as 2026-03-18"),
    "val_bpb": ((int, float), "bits per byte"),
    "val_loss": ((int, float), "nats per token"),
    "bytes_total": ((int,), "bytes"),
    "bytes_code": ((int,), "bytes"),
    "bytes_model": ((int,), "bytes"),
    "limit": ((int,), "bytes"),
    "totals": ((dict,), "shipped, rule and virtual"),
    "score": ((dict,), "mode, tokens and bytes"),
    "seeds": ((list,), "a list of seed, val_bpb and val_loss"),
    "config": ((dict,), "model and recipe"),
    "files": ((dict,), "bytes and sha256 by name"),
    "sha256": ((dict,), "model, code, config, tokenizer and data"),
    "authors": ((list,), "a list of names"),
    "assistance": ((list,), "a list of sentences"),
    "parents": ((list,), "a list of parents"),
    "squeeze": ((str,), "a version"),
    "versions": ((dict,), "versions by name"),
}
COMMANDS = ("scorer", "evaluate")  # at least one of them
MAX_TEXT = 4_000
HEX = re.compile("[0-9a-f]{64}")


@dataclass(frozen=True)
class About:
    """Authors of a submission and the help they had. date: ISO; by default the day it is written."""

    name: str
    authors: tuple[str, ...]
    github_id: str
    blurb: str = ""
    date: str = field(default_factory=lambda: datetime.now(UTC).date().isoformat())
    assistance: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        texts = {"name": self.name, "github_id": self.github_id, "date": self.date}
        for what, text in {**texts, "authors": "".join(self.authors)}.items():
            if not text.strip():
                raise BadSubmission(f"{what} is empty")
        for text in (*texts.values(), *self.authors, self.blurb, *self.assistance):
            if len(text) > MAX_TEXT or not text.isprintable():
                raise BadSubmission("text about the submission", found=repr(text)[:60])
        check_date(self.date)


def check_date(text: str) -> None:
    """Check a date. Raises BadSubmission for what is no ISO date or time."""
    try:
        datetime.fromisoformat(text)
    except ValueError:
        raise BadSubmission("date", expected="2026-03-18", found=repr(text)[:40]) from None


def mode_claims(mode: Mode) -> dict[str, Any]:
    """Return a mode as plain values; inverse of `claimed_mode`."""
    fields = {"mode": mode.name, "length": mode.length, "stride": mode.stride}
    return {**fields, "ttt": dict(mode.settings)}


def claimed_mode(score: Mapping[str, Any]) -> Mode:
    """Return the mode that submission.json states. Raises BadSubmission for what is none."""
    name, length, stride = (score.get(key) for key in ("mode", "length", "stride"))
    settings = score.get("ttt", {})
    numbers = all(n is None or (is_whole(n) and 1 <= n <= 1 << 20) for n in (length, stride))
    texts = isinstance(settings, dict) and all(isinstance(v, str) for v in settings.values())
    if not isinstance(name, str) or not numbers or not texts:
        raise BadSubmission(
            "submission.json: score", expected="a mode", found=repr(dict(score))[:80]
        )
    try:
        return Mode(name, length, stride, settings)
    except BadConfig as error:
        raise BadSubmission(f"submission.json: score: {error}") from None


def config_sha256(config: Config) -> str:
    """Return the SHA-256 of a configuration as canonical JSON: sorted keys, no spaces."""
    return sha256(json.dumps(config, sort_keys=True, separators=(",", ":")).encode())


def check_fields(claims: Mapping[str, Any]) -> None:
    """Check fields. Raises BadSubmission for one that is missing, of another kind, or out of range."""
    for name, (kinds, words) in FIELDS.items():
        value = claims.get(name)
        if name not in claims or not isinstance(value, kinds) or isinstance(value, bool):
            stated = repr(value)[:60] if name in claims else "no such field"
            raise BadSubmission(f"submission.json: {name}", expected=words, found=stated)
    for name in ("val_bpb", "val_loss"):
        if not is_number(claims[name]) or not 0 <= claims[name] < 1e6:
            raise BadSubmission(
                f"submission.json: {name}", expected="a score", found=repr(claims[name])[:60]
            )
    for name in ("bytes_total", "bytes_code", "bytes_model", "limit"):
        if not (name == "limit") <= claims[name] < 1 << 60:
            raise BadSubmission(
                f"submission.json: {name}", expected="bytes", found=repr(claims[name])[:60]
            )
    for name in ("name", "author", "github_id"):
        if not claims[name].strip():
            raise BadSubmission(f"submission.json: {name} is empty")
    for name in ("authors", "assistance"):
        if not all(isinstance(text, str) for text in claims[name]):
            raise BadSubmission(f"submission.json: {name}", expected=FIELDS[name][1])
    if not claims["authors"]:
        raise BadSubmission("submission.json: authors is empty")
    check_date(claims["date"])
    claimed_mode(claims["score"])
    _check_seeds(claims["seeds"])
    _check_numbers(claims)
    _check_hashes(claims["sha256"])
    for parent in claims["parents"]:
        _check_parent(parent)
    _check_commands(claims)
    _check_files(claims["files"])


def _check_numbers(claims: Mapping[str, Any]) -> None:
    """Check the optional numbers, which come all together or not at all."""
    means = [f"{name}_{kind}" for name in ("val_bpb", "val_loss") for kind in ("mean", "std")]
    groups = [means, ["training_seconds", "clock"], ["val_tokens", "val_bytes"]]
    for names in groups:
        stated = [name for name in names if name in claims]
        numbers = [name for name in names if name != "clock"]
        if stated and (stated != names or not all(is_score(claims[name]) for name in numbers)):
            raise BadSubmission(f"submission.json: {stated[0]}", expected=f"numbers {names}")
    if "clock" in claims:
        read_clock(claims["clock"], "submission.json")
    for name in ("tokens", "bytes"):
        value = claims["score"].get(name)
        if not is_whole(value) or not 0 < value < 1 << 60:
            raise BadSubmission(
                f"submission.json: score: {name}", expected="a number", found=repr(value)[:60]
            )


def is_score(value: object) -> bool:
    """Return whether a value is a number that may be printed with decimals."""
    return is_number(value) and abs(value) < 1e15  # type: ignore[arg-type]


def _check_hashes(hashes: Mapping[str, Any]) -> None:
    for name in dict.fromkeys(["model", "code", "config", "tokenizer", "data", *hashes]):
        value = hashes.get(name)
        values = value if isinstance(value, list) else [value]
        unknown = name == "squeeze" and value is None  # a report may not tell it
        if not unknown and not all(isinstance(v, str) and HEX.fullmatch(v) for v in values):
            raise BadSubmission(
                f"submission.json: sha256: {shown(name)}", expected="hashes", found=repr(value)[:60]
            )


def _check_parent(parent: object) -> None:
    fields = parent if isinstance(parent, dict) else {}
    changed = fields.get("changed")
    rows = list(changed.values()) if isinstance(changed, dict) else []
    fine = changed is None or isinstance(changed, dict)
    if not isinstance(fields.get("source"), str) or not fine:
        raise BadSubmission("submission.json: parents", expected="source and changed")
    if not all(isinstance(row, list) and len(row) == 2 for row in rows):
        raise BadSubmission("submission.json: parents", expected="changed: name, [before, after]")


def _check_seeds(rows: list[Any]) -> None:
    seen = []
    for row in rows:
        seed = row.get("seed") if isinstance(row, dict) else None
        scores = [row.get(k) for k in ("val_bpb", "val_loss")] if isinstance(row, dict) else [None]
        model = row.get("model") if isinstance(row, dict) else None
        fine = all(map(is_score, scores)) and (is_whole(seed) or (seed is None and "seed" in row))
        if not fine or not (isinstance(model, str) and HEX.fullmatch(model)):
            raise BadSubmission(
                "submission.json: seeds", expected=FIELDS["seeds"][1], found=repr(row)[:60]
            )
        if seed in seen:
            raise BadSubmission("submission.json: a seed twice", found=seed)
        seen.append(seed)
    if not rows:
        raise BadSubmission("submission.json: no seed", expected=FIELDS["seeds"][1])


def _check_commands(claims: Mapping[str, Any]) -> None:
    stated = {name: claims[name] for name in COMMANDS if name in claims}
    if not stated:
        raise BadSubmission("submission.json: no command", expected=" or ".join(COMMANDS))
    for name, command in stated.items():
        check_command(command, f"submission.json: {name}")


def check_command(command: object, what: str) -> None:
    """Check a command: `python`, a script of the folder, text arguments. Raises BadSubmission."""
    given = list(command) if isinstance(command, list | tuple) and len(command) <= 100 else []
    if len(given) < 2 or not all(isinstance(part, str) and "\0" not in part for part in given):
        raise BadSubmission(
            what, expected='["python", "train_gpt.py", …]', found=repr(command)[:80]
        )
    program, script = given[:2]
    if program not in ("python", "python3"):
        raise BadSubmission(f"{what}: program", expected="python", found=repr(program)[:60])
    safe_name(script)


def _check_files(files: Mapping[str, Any]) -> None:
    safe_names(files)
    for name, row in files.items():
        size, digest = (row.get("bytes"), row.get("sha256")) if isinstance(row, dict) else ("", "")
        if not is_whole(size) or not (isinstance(digest, str) and HEX.fullmatch(digest)):
            raise BadSubmission(
                f"submission.json: files: {name}",
                expected="bytes and sha256",
                found=repr(row)[:60],
            )
