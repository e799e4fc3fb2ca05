"""Limit and tokenizer that a pack was asked for, kept beside the artifact: `ARTIFACT.cache/asked.json`.

Commands on the artifact take from it what their own options leave open.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from squeeze.errors import SqueezeError
from squeeze.files import cache_beside, read_file, read_json, sha256, write_atomic

NAME = "asked.json"
MAX_SIZE = 1 << 16  # bytes of the file


@dataclass(frozen=True)
class Asked:
    """The limit, code and tokenizer that a pack was asked for.

    sha256: of the artifact
    limit: bytes that artifact and code may take together
    tokenizer: path of the sentencepiece model, None where none was given
    """

    sha256: str
    limit: int
    tokenizer: str | None


def one_artifact(paths: Iterable[str | os.PathLike[str]]) -> Path | None:
    """Return the artifact among paths; None where there is none, or several."""
    artifacts = [path for path in map(Path, paths) if path.suffix == ".sqz"]
    return artifacts[0] if len(artifacts) == 1 else None


def write_asked(artifact: Path, asked: Asked) -> None:
    """Write the record into the folder beside an artifact; a pack without that folder has none."""
    folder = cache_beside(artifact)
    if folder.is_dir():
        write_atomic(folder / NAME, json.dumps(asdict(asked), indent=1).encode())


def asked_of(paths: Iterable[str | os.PathLike[str]]) -> Asked | None:
    """Return the record beside the one artifact among paths; None without one that fits its bytes."""
    artifact = one_artifact(path for path in map(Path, paths) if path.is_file())
    if artifact is None:
        return None
    try:
        match read_json(cache_beside(artifact) / NAME, MAX_SIZE):
            case {"sha256": str(digest), "limit": int(limit), "tokenizer": (None | str()) as path}:
                asked = Asked(digest, limit, path)
            case _:
                return None
        if type(limit) is not int or limit < 1 or asked.sha256 != sha256(read_file(artifact)):
            return None
    except SqueezeError:
        return None
    return asked
