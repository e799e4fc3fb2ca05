"""Runs `squeeze unpack`: decodes an artifact into a safetensors file."""

from __future__ import annotations

import json

from squeeze.artifact.unpack import unpack
from squeeze.cli.terminal.printing import print_json, print_line
from squeeze.files import check_outputs, output_beside


def run(artifact: str, out: str | None, as_json: bool) -> None:
    """Write the checkpoint and print its size. Raises UnsupportedFormat for other files."""
    target = out or str(output_beside(artifact, ".safetensors"))
    check_outputs([target], [artifact])
    unpacked = unpack(artifact, target)
    config, tensors = unpacked.artifact.config, unpacked.artifact.tensors
    if as_json:
        shapes = {name: list(tensor.shape) for name, tensor in tensors.items()}
        size = {"checkpoint": target, "bytes": unpacked.plain}
        print_json({**size, "config": config, "tensors": shapes})
    else:
        sizes = f"{unpacked.packed:,} → {unpacked.plain:,} bytes"
        print_line(f"{target}: {len(tensors)} tensors, {sizes}")
        print_line(json.dumps(config), err=True)
