"""A submission folder as it lies on disk: command, files, claims, logs. Nothing of it is run here."""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from squeeze.errors import SqueezeError
from squeeze.files import read_file
from squeeze.ledger.submission import CLAIMS, CODE, MODEL, is_log
from squeeze.review.claims import Claims, read_claims
from squeeze.review.logs import LoggedRun, distinct_runs, read_runs
from squeeze.review.values import decode_text, number_of, parse_leniently
from squeeze.score.audit.adapter import Adapter

TRANSFORMERS = "config.json"
MAX_FILES = 10_000
MAX_BYTES = 1 << 30  # copied into each box
MAX_TEXT = 32 << 20  # of one JSON file or log


@dataclass(frozen=True)
class Submission:
    """A folder that an audit runs.

    folder: absolute path
    command: program and arguments; `{folder}` stands for the private copy
    files: bytes by relative path
    links: symbolic links that lead out of the folder
    stated: submission.json
    seeds: seed*.json by name
    runs: runs of the logs, each once
    shown: squeeze's own packages, when squeeze itself serves a model
    trusted: nothing but squeeze's own code runs: the model is an artifact or a folder of transformers
    adapter: script of the auditor that builds the model; None: it speaks the protocol itself
    """

    folder: Path
    command: tuple[str, ...]
    files: dict[str, int]
    links: tuple[str, ...]
    stated: Claims
    seeds: dict[str, dict[str, Any]]
    runs: tuple[LoggedRun, ...]
    shown: tuple[Path, ...] = ()
    trusted: bool = False
    adapter: Adapter | None = None

    @property
    def inputs(self) -> dict[str, Path]:
        """Files by name that every box gets besides those of its run."""
        return {} if self.adapter is None else self.adapter.inputs(self.folder)

    @property
    def claims(self) -> dict[str, Any]:
        """Fields of submission.json, {} without one."""
        return self.stated.fields

    def number(self, name: str) -> float | None:
        """Return a number of submission.json, also one spelled as text; None: not stated.

        NaN stands for what is no number: no comparison passes with it.
        """
        value = self.claims.get(name)
        number = number_of(value)
        return number if number is not None or value is None else math.nan


def load_submission(
    folder: Path, serve_options: Sequence[str] = (), adapter: Adapter | None = None
) -> Submission:
    """Read a folder with `train_gpt.py`, a stated command, a bare `model.sqz`, or a transformers model.

    serve_options: arguments of `python -m squeeze.score.serving.serve`, where squeeze serves the model
    adapter: script that builds the model of a folder that does not speak the protocol

    Raises SqueezeError when there is nothing to run, or more files or bytes than a submission has.
    """
    folder = folder.resolve()
    if not folder.is_dir():
        raise SqueezeError(f"{folder}: cannot be audited", expected="a submission folder")
    files, links = _list(folder)
    if CLAIMS in files:
        _object(folder / CLAIMS)
    claims = read_claims(CLAIMS, read_file(folder / CLAIMS, MAX_TEXT) if CLAIMS in files else b"{}")
    if adapter is not None:
        command, served = (*adapter.command(folder), *serve_options), True
    else:
        command, served = _command(folder, files, claims.fields, serve_options)
    logged = [run for n in files if is_log(n) for run in read_runs(n, _text(folder / n))]
    return Submission(
        folder,
        command,
        files,
        links,
        claims,
        {n: _object(folder / n) for n in files if Path(n).match("seed*.json")},
        tuple(distinct_runs(logged)),
        own_packages() if served else (),
        served and adapter is None,
        adapter,
    )


def _list(folder: Path) -> tuple[dict[str, int], tuple[str, ...]]:
    files: dict[str, int] = {}
    links = []
    for here, names, leaves in os.walk(folder):
        for path in (Path(here) / name for name in [*names, *leaves]):
            name = str(path.relative_to(folder))
            real = Path(os.path.realpath(path))
            if path.is_symlink() and not (real.is_relative_to(folder) and real.exists()):
                links.append(name)  # leads nowhere inside: nothing of it ships
            elif path.is_file():
                files[name] = path.stat().st_size
            elif not path.is_dir():
                raise SqueezeError(f"{path}: neither a file nor a folder")
        if len(files) > MAX_FILES or sum(files.values()) > MAX_BYTES:
            raise SqueezeError(
                f"{folder}: too large for a submission",
                expected=f"≤ {MAX_FILES} files of ≤ {MAX_BYTES} bytes in all",
            )
    return dict(sorted(files.items())), tuple(sorted(links))


def _command(
    folder: Path, files: dict[str, int], claims: dict[str, Any], serve_options: Sequence[str]
) -> tuple[tuple[str, ...], bool]:
    """Return program and arguments, and whether they are squeeze's own."""
    stated = claims.get("scorer")
    if stated is not None:
        if (
            not isinstance(stated, list)
            or not stated
            or not all(isinstance(s, str) for s in stated)
        ):
            raise SqueezeError(
                "submission.json: scorer", expected='a list such as ["python", "train_gpt.py"]'
            )
        first = sys.executable if stated[0] in ("python", "python3") else stated[0]
        if "/" not in first:
            first = f"/usr/bin/{first}"
        return (first, *stated[1:]), False
    if CODE in files:
        return (sys.executable, CODE, "--serve"), False
    if MODEL in files or TRANSFORMERS in files:
        model = f"{{folder}}/{MODEL}" if MODEL in files else "{folder}"
        # -P: modules come from squeeze's installation, never from the folder
        serve = (sys.executable, "-P", "-m", "squeeze.score.serving.serve", model)
        return (*serve, *serve_options), True
    raise SqueezeError(
        f"{folder}: nothing to run",
        expected="train_gpt.py, model.sqz, config.json, or submission.json with a scorer",
        fix="docs/protocol.md shows how to expose the scoring protocol in a few lines; --adapter"
        " FILE.py:NAME wraps a model in it; `squeeze review` reads the papers of a folder that holds no"
        " weights.",
    )


def own_packages() -> tuple[Path, ...]:
    """Return the folders that hold squeeze, wherever and however it is installed."""
    names = ["squeeze", "squeeze.codecs", "squeeze.calib", "squeeze.train"]
    specs = [find_spec(name) for name in names]
    folders = sorted(
        {Path(p) for spec in specs if spec for p in spec.submodule_search_locations or ()}
    )
    return tuple(p for p in folders if not any(q in p.parents for q in folders))


def _text(path: Path) -> str:
    return decode_text(read_file(path, MAX_TEXT))


def _object(path: Path) -> dict[str, Any]:
    value = parse_leniently(_text(path).encode(), [])
    if not isinstance(value, dict):
        raise SqueezeError(f"{path.name}: cannot be read", expected="a JSON object")
    return value
