"""Runs `squeeze unpack`: decodes an artifact into a safetensors file."""

from __future__ import annotations

import json

from squeeze.artifact.container import MAGIC
from squeeze.artifact.file import decode
from squeeze.artifact.unpack import to_safetensors
from squeeze.cli.terminal.printing import print_json, print_line
from squeeze.errors import UnsupportedFormat
from squeeze.files import check_outputs, output_beside, read_file, write_atomic


def run(artifact: str, out: str | None, as_json: bool) -> None:
    """Write the checkpoint and print its size. Raises UnsupportedFormat for other files."""
    target = out or str(output_beside(artifact, ".safetensors"))
    check_outputs([target], [artifact])
    data = read_file(artifact)
    if data[:4] != MAGIC:
        raise UnsupportedFormat(f"{artifact}: not a .sqz artifact", found=data[:4].hex())
    decoded = decode(data)
    blob = to_safetensors(decoded)
    write_atomic(target, blob)
    if as_json:
        tensors = {name: list(tensor.shape) for name, tensor in decoded.tensors.items()}
        size = {"checkpoint": target, "bytes": len(blob)}
        print_json({**size, "config": decoded.config, "tensors": tensors})
    else:
        print_line(f"{target}: {len(decoded.tensors)} tensors, {len(data):,} → {len(blob):,} bytes")
        print_line(json.dumps(decoded.config), err=True)
