"""Hides packages: with this folder in PYTHONPATH, those named by WITHOUT cannot be imported."""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from typing import Any

HIDDEN = frozenset(os.environ.get("WITHOUT", "").split(","))


class Hiding(MetaPathFinder):
    """Refuses the hidden packages, as an environment does that never had them."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: Any = None
    ) -> ModuleSpec | None:
        """Raise ModuleNotFoundError for a hidden package, and leave others to the next finder."""
        if fullname.partition(".")[0] in HIDDEN:
            raise ModuleNotFoundError(f"No module named {fullname!r}", name=fullname)
        return None


def _find_spec(name: str, package: str | None = None) -> ModuleSpec | None:
    return None if name.partition(".")[0] in HIDDEN else original(name, package)


sys.meta_path.insert(0, Hiding())
original, importlib.util.find_spec = importlib.util.find_spec, _find_spec
