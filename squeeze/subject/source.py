"""A model as users name it: a file of weights, and the script that runs them where squeeze does not."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from squeeze.checkpoint.read import Checkpoint, is_own, load_checkpoint, load_model
from squeeze.errors import BadCheckpoint
from squeeze.subject.script import load_script
from squeeze.subject.workpiece import Workpiece

Path = str | os.PathLike[str]


@dataclass(frozen=True)
class ModelSource:
    """A file of weights and what is said about it.

    script: FILE.py:NAME of the model that runs them; None: one of this project
    shim: whether modules that the script lacks are replaced
    statements: keywords of `squeeze.checkpoint.read.load_model`
    """

    path: Path
    script: str | None = None
    shim: bool = False
    statements: Mapping[str, Any] = field(default_factory=dict)

    def open(self, alone: bool = False) -> Workpiece:
        """Return the model. Raises as `load_model` and `load_script` do.

        alone: weights that no model of this project runs are taken as they are
        """
        if self.script is not None:
            subject = load_script(self.script, self.statements.get("seq_len"), self.shim)
            return Workpiece.of_subject(subject, self._checkpoint())
        try:
            return Workpiece.of(load_model(self.path, **self.statements))
        except BadCheckpoint:
            if not alone or is_own(self.path, self.statements):
                raise
            return Workpiece.of_weights(self._checkpoint())

    def _checkpoint(self) -> Checkpoint:
        return load_checkpoint(self.path, self.statements.get("entry"))
