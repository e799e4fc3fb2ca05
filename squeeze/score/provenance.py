"""Code, versions and machine of a score: all that it depends on besides model and data."""

from __future__ import annotations

import platform
import sys
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import torch

from squeeze import __version__
from squeeze.files.sources import code_sha256 as code_sha256

DISTRIBUTIONS = ("torch", "numpy", "numba", "sentencepiece", "safetensors")


def versions() -> dict[str, str]:
    """Return the versions of squeeze, Python, the platform, and libraries whose arithmetic matters."""
    releases = {
        "squeeze": __version__,
        "python": sys.version.split()[0],
        "platform": f"{platform.system()} {platform.machine()}",
    }
    for name in DISTRIBUTIONS:
        try:
            releases[name] = version(name)
        except PackageNotFoundError:
            continue
    return releases


def device_facts(device: torch.device) -> dict[str, Any]:
    """Return the name of a torch device, and the threads of torch."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor()
    return {"device": str(device), "device_name": name, "threads": torch.get_num_threads()}
