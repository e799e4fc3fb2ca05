"""A model as users name it: a file of weights, and the script that runs them where squeeze does not."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from squeeze.checkpoint.read import completed_model, is_own, load_checkpoint
from squeeze.errors import BadCheckpoint, BadConfig
from squeeze.subject.folder import KIND, build, is_folder, open_folder
from squeeze.subject.script import load_script
from squeeze.subject.workpiece import SUBJECT, Workpiece

Path = str | os.PathLike[str]
# sentence for the user
UNSTATED = (
    "packed without a model, as no file says how these weights compute; eval takes it (--like)"
)


@dataclass(frozen=True)
class ModelSource:
    """A file of weights, or a folder of transformers, and what is said about it.

    script: FILE.py:NAME of the model that runs them; None: one of this project
    shim: whether modules that the script lacks are replaced
    statements: keywords of `squeeze.checkpoint.read.load_model`
    """

    path: Path
    script: str | None = None
    shim: bool = False
    statements: Mapping[str, Any] = field(default_factory=dict)

    def open(self, alone: bool = False, unstated: bool = False) -> Workpiece:
        """Return the model. Raises as `load_model` and `load_script` do.

        alone: weights that no model of this project runs are taken as they are
        unstated: so are those of its models where nobody said how they compute, nor has to
        """
        statements = dict(self.statements)
        entry, length = statements.pop("entry", None), statements.get("seq_len")
        if self.script is not None:
            _refuse_stated(statements, "the script of --model")
            checkpoint = load_checkpoint(self.path, entry)
            subject = load_script(self.script, length, self.shim, checkpoint.tensors)
            return Workpiece.of_subject(subject, checkpoint, os.path.basename(self.path))
        if is_folder(self.path):
            _refuse_stated(statements, "config.json of the folder")
            return open_folder(self.path, length)
        checkpoint = load_checkpoint(self.path, entry)
        try:
            return Workpiece.of(completed_model(checkpoint, **statements))
        except BadCheckpoint:
            silent = not any(value not in (None, False) for value in statements.values())
            if is_own(checkpoint, statements):
                if not (unstated and silent):
                    raise
                return Workpiece.of_weights(checkpoint, UNSTATED)
            identity = checkpoint.header.get(SUBJECT, {})
            if identity.get("kind") == KIND:
                return Workpiece.of_subject(
                    build(identity, length), checkpoint, os.path.basename(self.path)
                )
            if not alone:
                raise
            return Workpiece.of_weights(checkpoint)


def _refuse_stated(statements: Mapping[str, Any], source: str) -> None:
    """Raise BadConfig for options of this project's own models, which another would not read.

    source: of what they would say
    """
    taken = ("seq_len", "assume")
    stated = [n for n, value in statements.items() if value is not None and n not in taken]
    if stated:
        raise BadConfig(
            "options of a model that is not squeeze's own",
            expected=f"none: {source} says how it computes",
            found=", ".join(sorted(stated)),
            fix="Leave them out, or change it there.",
        )
