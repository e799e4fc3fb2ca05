"""Packing a checkpoint as `squeeze pack --preset` does, for tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from squeeze.checkpoint.read import load_model
from squeeze.packing.calibrate import Calibration
from squeeze.packing.pack import pack_model
from squeeze.packing.packed import Packed
from squeeze.packing.request import PackRequest


def pack_to(
    path: Path,
    limit: int,
    calibration: Calibration,
    cache: Path,
    preset: str = "fast",
    **architecture: Any,
) -> Packed:
    """Return the checkpoint packed into at most `limit` bytes.

    architecture: fields of the configuration that the checkpoint does not tell
    """
    request = PackRequest(limit, preset, calibration=calibration, cache=cache)
    return pack_model(load_model(path, **architecture), request)
