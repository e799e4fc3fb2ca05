"""Runs `squeeze unpack`: decodes an artifact into a safetensors file, or a folder of transformers."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Any

from squeeze.artifact.file import load
from squeeze.artifact.streams import Artifact
from squeeze.artifact.unpack import unpack
from squeeze.cli.terminal.printing import print_json, print_line
from squeeze.errors import SqueezeError
from squeeze.files import check_output_folder, check_outputs, output_beside
from squeeze.subject.folder import is_of_folder, save_folder

SUFFIX = ".safetensors"


def run(path: str, out: str | None, as_json: bool) -> None:
    """Write the checkpoint and print its size. Raises UnsupportedFormat for other files.

    A model of transformers becomes a folder, unless `out` names a safetensors file.
    """
    if out and not out.endswith(SUFFIX):
        artifact = load(path)
        if is_of_folder(artifact):
            check_output_folder(out)
            size = save_folder(artifact, out)
            return _print(artifact, {"folder": out, "bytes": size}, as_json)
    target = out or _new_file_beside(path)
    check_outputs([target], [path])
    unpacked = unpack(path, target)
    _print(unpacked.artifact, {"checkpoint": target, "bytes": unpacked.plain}, as_json)


def _new_file_beside(path: str) -> str:
    """Return where the checkpoint goes that no option names.

    Raises SqueezeError when something is there: mostly the checkpoint that the artifact was packed from.
    """
    target = output_beside(path, SUFFIX)
    if os.path.lexists(target):
        raise SqueezeError(
            f"{target}: cannot be written",
            expected="nothing there",
            found="what may be the checkpoint that was packed",
            fix="Name a file with -o; what -o names is replaced.",
        )
    return str(target)


def _print(artifact: Artifact, written: Mapping[str, Any], as_json: bool) -> None:
    config, tensors = artifact.config, artifact.tensors
    if as_json:
        shapes = {name: list(tensor.shape) for name, tensor in tensors.items()}
        print_json({**written, "config": config, "tensors": shapes})
        return
    target = next(iter(written.values()))
    print_line(f"{target}: {len(tensors)} tensors, {written['bytes']:,} bytes")
    # names of parts, ties and roles may be thousands; --json has them
    model = config.get("model") or config.get("subject")
    if model is not None:
        print_line(json.dumps(model), err=True)
