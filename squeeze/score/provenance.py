"""What a score depends on besides the model and the data: code, versions, machine. Lazy about torch."""

from __future__ import annotations

import hashlib
import platform
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from squeeze import __version__
from squeeze.files.sources import code_sha256 as code_sha256

DISTRIBUTIONS = ("torch", "numpy", "numba", "sentencepiece", "safetensors")


def file_sha256(path: Path) -> str:
    """Hex SHA-256 of a file of any size."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def versions() -> dict[str, str]:
    """Of squeeze, Python, the platform, and the libraries whose arithmetic or formats matter."""
    found = {
        "squeeze": __version__,
        "python": sys.version.split()[0],
        "platform": f"{platform.system()} {platform.machine()}",
    }
    for name in DISTRIBUTIONS:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def device_facts(device: Any) -> dict[str, Any]:
    """Name of a torch device and the threads it is driven with."""
    import torch

    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor()
    return {"device": str(device), "device_name": name, "threads": torch.get_num_threads()}
