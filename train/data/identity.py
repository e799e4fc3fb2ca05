"""The tokenizer that shards were made with, as the file beside them says. No torch here."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

STATE = "tokenized.json"  # `squeeze data tokenize` writes it beside its shards
MAX_STATE = 4 << 20  # bytes
SHARD = re.compile(r"(train|val)_(\d{6})\.bin")
DIGEST = re.compile(r"[0-9a-f]{64}")


def tokenizer_of_shard(path: str | os.PathLike[str]) -> str | None:
    """Return the SHA-256 of the tokenizer of a shard; None where nothing says it.

    Only shards that the file beside them lists are of its tokenizer.
    """
    shard = Path(path)
    match = SHARD.fullmatch(shard.name)
    try:
        with open(shard.with_name(STATE), "rb") as file:
            data = file.read(MAX_STATE + 1)
        state: Any = json.loads(data) if match and len(data) <= MAX_STATE else None
        listed = len(state["sizes"][match[1]]) if match and state else 0
        digest = state["job"]["tokenizer"] if listed else None
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
    if match is None or int(match[2]) >= listed or not isinstance(digest, str):
        return None
    return digest if DIGEST.fullmatch(digest) else None
