"""A conversion of weights from the names of a script to ours, as far as it has come."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from squeeze.artifact.streams import Tensor
from squeeze.checkpoint.settings import ScriptSettings
from squeeze.errors import BadCheckpoint

Named = dict[str, Tensor]
Fields = dict[str, Any]

IN_BLOCK = re.compile(r"blocks\.(\d{1,4})\.(.+)")
OWN_CLASS = "Name the script's own class with --model FILE.py:NAME."
FIX = "Say it with --like, --settings or --set."


@dataclass
class Conversion:
    """A conversion under way.

    left: tensors that are still under their script's names
    ours: tensors under our names
    told: fields of the configuration that are known without the tensors
    settings: the script's settings
    facts: fields that the names of the tensors say
    notes: sentences for the user
    """

    left: Named
    told: Mapping[str, Any]
    settings: ScriptSettings
    notes: list[str]
    ours: Named = field(default_factory=dict)
    facts: Fields = field(default_factory=dict)

    def need(self, name: str, why: str) -> Any:
        """Return a field of the configuration. Raises BadCheckpoint, saying why it is needed."""
        value = self.facts.get(name, self.told.get(name))
        if value is None:
            raise BadCheckpoint(
                f"{name} is not in the file", expected=why, found="nothing that says it", fix=FIX
            )
        return value

    def leave_out(self, names: list[str], why: str) -> None:
        """Drop tensors that the forward does not use, and say so."""
        if names:
            listed = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if names[3:] else "")
            self.notes.append(f"left out, {why}: {listed}")
        for name in names:
            self.left.pop(name, None)
