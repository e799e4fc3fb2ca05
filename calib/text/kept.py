"""Calibration text in a file, under the key of everything that it depends on."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from squeeze.calib.text.sources import Sequences
from squeeze.errors import BadData
from squeeze.files import write_atomic


def keep_text(path: Path, key: str, text: Sequences) -> None:
    """Write a text and its key, atomically."""
    facts = {"key": key, "source": text.source, "sha256": text.digest()}
    write_atomic(path, save({"ids": text.ids}, {"text": json.dumps(facts)}))


def kept_text(path: Path, key: str) -> Sequences | None:
    """Return the text kept under this key; None where there is none, or it is damaged."""
    if not os.path.isfile(path):
        return None
    try:
        with safe_open(path, "numpy") as file:
            facts = json.loads((file.metadata() or {})["text"])
            if facts["key"] != key:
                return None
            text = Sequences(file.get_tensor("ids").astype(np.uint16), facts["source"])
            return text if facts["sha256"] == text.digest() else None
    except (SafetensorError, OSError, ValueError, KeyError, TypeError, RecursionError, BadData):
        return None
