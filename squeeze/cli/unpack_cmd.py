"""`squeeze unpack`: `.sqz` → safetensors with the configuration in its metadata."""

from __future__ import annotations

from pathlib import Path

import click

from squeeze.cli.options import json_option
from squeeze.cli.terminal.printing import print_json, print_line


@click.command("unpack")
@click.argument("artifact", type=click.Path())
@click.option("-o", "--out", type=click.Path(), help="File to write [ARTIFACT with .safetensors].")
@json_option
def command(artifact: str, out: str | None, as_json: bool) -> None:
    """Decode ARTIFACT into a safetensors checkpoint of the weights the evaluator uses.

    \b
    Example:
      squeeze unpack model.sqz -o model.safetensors
    """
    import json

    from squeeze.artifact.container import MAGIC
    from squeeze.artifact.file import decode
    from squeeze.artifact.unpack import to_safetensors
    from squeeze.errors import UnsupportedFormat
    from squeeze.files import read_file, write_atomic

    data = read_file(artifact)
    if data[:4] != MAGIC:
        raise UnsupportedFormat(f"{artifact}: not a .sqz artifact", found=data[:4].hex())
    target = out or str(Path(artifact).with_suffix(".safetensors"))
    decoded = decode(data)
    blob = to_safetensors(decoded)
    write_atomic(target, blob)
    if as_json:
        tensors = {name: list(tensor.shape) for name, tensor in decoded.tensors.items()}
        print_json({"checkpoint": target, "bytes": len(blob), "config": decoded.config,
                    "tensors": tensors})  # fmt: skip
    else:
        print_line(f"{target}: {len(decoded.tensors)} tensors, {len(data):,} → {len(blob):,} bytes")
        print_line(json.dumps(decoded.config), err=True)
