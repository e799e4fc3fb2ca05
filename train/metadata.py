"""Text that a checkpoint carries beside its tensors. Importing this loads no torch."""

from __future__ import annotations

import json
import os

CONFIG_KEY = "squeeze.config"  # of the model's configuration
ASSUMED_KEY = "squeeze.assumed"  # of fields of that configuration which were guessed
TOKENIZER_KEY = "squeeze.tokenizer"  # of the SHA-256 of the tokenizer it was trained with
RECIPE_KEY = "squeeze.recipe"  # of the recipe it was trained by
MAX_HEADER = 8 << 20  # bytes; JSON takes 24 times as many in memory


def read_metadata(path: str | os.PathLike[str]) -> dict[str, str]:
    """Return the text metadata of a safetensors file that can be read; empty for any other file."""
    with open(path, "rb") as file:
        head = file.read(8)
        head += file.read(min(MAX_HEADER, int.from_bytes(head, "little")))
    size = int.from_bytes(head[:8], "little")
    try:
        fields = json.loads(head[8 : 8 + size]) if size <= len(head) - 8 else {}
    except (ValueError, RecursionError):
        return {}
    metadata = fields.get("__metadata__") if isinstance(fields, dict) else None
    pairs = metadata.items() if isinstance(metadata, dict) else ()
    return {name: text for name, text in pairs if isinstance(text, str)}
