"""Statements about a model beside its artifact: the script that runs it, and its options.

A decoder needs the same, so it is given to the decoding process, counted, and named in the proof's file.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from squeeze.files import hash_of, read_file
from squeeze.score.evaluate import config_of
from squeeze.subject.source import ModelSource
from squeeze.subject.subject import Subject

SCRIPT, MODEL = "script", "model"  # fields of a proof's file
DIGITS = 8  # of a SHA-256 there: they tell files apart
SETTINGS = "settings.json"


@dataclass(frozen=True)
class Said:
    """Files and statements that the decoding process gets besides artifact, tokenizer and coded file.

    text: JSON that `source_of` reads
    files: paths by the names of their copies
    script_bytes: size of the script, 0 for none
    statement_bytes: of settings and statements, 0 for none
    """

    text: str
    files: Mapping[str, Path] = field(default_factory=dict)
    script_bytes: int = 0
    statement_bytes: int = 0

    @classmethod
    def of(cls, source: ModelSource) -> Said:
        """Return what is said of a model."""
        statements, script = stated(source), source.script
        files, script_bytes, statement_bytes = dict[str, Path](), 0, 0
        if script is not None:
            path, colon, name = script.rpartition(".py")
            file = Path(path + colon)
            files[file.name], script = file, file.name + name
            script_bytes = len(read_file(file))
        if statements:
            statement_bytes = len(json.dumps(statements, default=str))
        if "settings" in statements:
            files[SETTINGS] = Path(statements["settings"])
            statement_bytes += len(read_file(files[SETTINGS]))
            statements["settings"] = SETTINGS
        fields = {"script": script, "shim": source.shim, "statements": statements}
        return cls(json.dumps(fields), files, script_bytes, statement_bytes)


def source_of(model: str, text: str) -> ModelSource:
    """Return a model as it was named; text: of a `Said`."""
    fields = json.loads(text)
    stated = fields.get("statements", {})
    lists = {key: tuple(v) if isinstance(v, list) else v for key, v in stated.items()}
    return ModelSource(model, fields.get("script"), fields.get("shim", False), lists)


def stated(source: ModelSource) -> dict[str, Any]:
    """Return the statements that are made."""
    return {name: value for name, value in source.statements.items() if value not in (None, False)}


def digests(source: ModelSource, subject: Subject) -> dict[str, str]:
    """Return the fields of a proof's file for what is said: of the script, and of the model it gives."""
    said = {}
    if source.script is not None:
        said[SCRIPT] = str(subject.identity["sha256"])
    if said or stated(source):
        said[MODEL] = hash_of(source.statements.get("entry"), source.shim, config_of(subject))
    return {name: digest[:DIGITS] for name, digest in said.items()}


def script_notes(source: ModelSource, subject: Subject) -> list[str]:
    """Return sentences on a script: what a decoder runs, and how long it takes."""
    if source.script is None:
        return []
    size = Said.of(source).script_bytes
    notes = [
        f"the decoder runs the script: its {size:,} bytes count with the model, and as code it may read "
        "anything on the machine, so a proof with it is worth what a reading of it is"
    ]
    if subject.step is None:
        notes.append(
            "the script has no `step`, an incremental forward: every token ran its whole window again"
        )
    return notes
