"""Facts in an artifact's header besides the model's configuration, and sentences that repeat them."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from squeeze.artifact import container
from squeeze.train.metadata import ASSUMED_KEY, TOKENIZER_KEY

Fields = Mapping[str, Any]
DIGEST = re.compile(r"[0-9a-f]{64}")


def assumed_of(header: Fields) -> dict[str, Any]:
    """Return the fields of the configuration that nobody stated when the artifact was made."""
    assumed = header.get("assumed")
    return dict(assumed) if isinstance(assumed, dict) else {}


def tokenizer_of(header: Fields) -> str | None:
    """Return the SHA-256 of the tokenizer a model was trained with; None where the header has none."""
    digest = header.get("tokenizer")
    return digest if isinstance(digest, str) and DIGEST.fullmatch(digest) else None


def tokenizer_of_artifact(data: bytes) -> str | None:
    """Return the SHA-256 of the tokenizer that a `.sqz` file names; None for files of other kinds."""
    if data[: len(container.MAGIC)] != container.MAGIC:
        return None
    return tokenizer_of(container.parse(data).config)


def header_of(model: Fields, assumed: Fields, tokenizer: str | None) -> dict[str, Any]:
    """Return an artifact's header: the configuration, and the facts that exist."""
    header: dict[str, Any] = {"model": dict(model)}
    if assumed:
        header["assumed"] = dict(assumed)
    if tokenizer is not None:
        header["tokenizer"] = tokenizer
    return header


def metadata_of(header: Fields) -> dict[str, str]:
    """Return the facts of an artifact's header as metadata of a checkpoint."""
    assumed, tokenizer = assumed_of(header), tokenizer_of(header)
    facts = {ASSUMED_KEY: json.dumps(assumed, sort_keys=True)} if assumed else {}
    return facts if tokenizer is None else facts | {TOKENIZER_KEY: tokenizer}


def assumed_notes(assumed: Fields) -> list[str]:
    """Return the sentence that repeats assumed fields; none where there are none."""
    return [f"assumed, as no file says it: {listed(assumed)}"] if assumed else []


def listed(fields: Fields) -> str:
    """Return fields as they are written after --set.

    >>> listed({"mlp_power": 2, "qk_norm": True, "layer_schedule": (0, 1)})
    'mlp_power=2, qk_norm=on, layer_schedule=0,1'
    """
    return ", ".join(f"{name}={_text(value)}" for name, value in fields.items())[:1000]


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, tuple | list):
        return ",".join(map(str, value))
    return f"{value:g}" if isinstance(value, float) else str(value)
