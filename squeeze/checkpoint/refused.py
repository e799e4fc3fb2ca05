"""Files that hold weights but are not read here: the error says what each is and what to do with it."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Sequence
from pathlib import Path

from squeeze.errors import SqueezeError, UnsupportedFormat
from squeeze.outside import zip_archive

EXPECTED = "safetensors, torch .pt, int8_clean_per_row_v1 .ptz or .sqz"
MODEL_ENDINGS = (".safetensors", ".pt", ".pth", ".ptz", ".sqz", ".bin")
MAX_INDEX = 16 << 20  # bytes of an index of shards
RESAVE = "Load it where you trust it, and save torch.save(model.state_dict(), path)."
# First bytes of a file: what it is, and what to do with it.
KNOWN = {
    b"GGUF": (
        "a GGUF file of llama.cpp",
        "Convert it to float safetensors; its blocks are not read.",
    ),
    b"\x93NUMPY": ("one numpy array", "Save the arrays by name with safetensors.numpy.save_file."),
    b"\x89HDF": ("an HDF5 file", "Save its arrays by name with safetensors.numpy.save_file."),
    b"PGRP": (
        "a container of lrzip streams, which are not decoded",
        "Pack the checkpoint it is of.",
    ),
    b"\x80\x02": ("a bare pickle", RESAVE),
    b"\x80\x03": ("a bare pickle", RESAVE),
    b"\x80\x04": ("a bare pickle", RESAVE),
    b"\x80\x05": ("a bare pickle", RESAVE),
}
# The message ModelProto: its version as a varint, then the name of its producer, or the graph.
ONNX = re.compile(rb"\x08[\x01-\x20][\x12\x3a]")


def refusal(data: memoryview, name: str, coders: Sequence[str]) -> UnsupportedFormat:
    """Return the error for a file that is no checkpoint.

    coders: names of the compression formats that were undone before
    """
    head = bytes(data[:8])
    content, fix = f"first bytes {head.hex() or '(empty file)'}", ""
    for magic, (kind, advice) in KNOWN.items():
        if head.startswith(magic):
            content, fix = kind, advice
    if ONNX.match(head):
        content, fix = "an ONNX model", "Pack the weights that it was exported from."
    if head.startswith(zip_archive.MAGIC):
        content, fix = _archive(data, name)
    elif head.startswith(b"{") and (shards := _shards(data)):
        content = f"an index of {len(shards)} shards"
        fix = f"Merge them into one file; a shard alone ({shards[0][:60]}) lacks tensors."
    if coders:
        content = f"{' '.join(coders)} of {content}"
    return UnsupportedFormat(
        f"{name}: not a checkpoint squeeze reads", expected=EXPECTED, found=content, fix=fix
    )


def refuse_folder(path: str | os.PathLike[str]) -> None:
    """Raise SqueezeError for a folder; it names the files inside that might be meant."""
    if not os.path.isdir(path):
        return
    try:
        names = sorted(name for name in os.listdir(path) if name.endswith(MODEL_ENDINGS))
    except OSError:
        names = []
    more = f" and {len(names) - 4} more" if len(names) > 4 else ""
    fix = ""
    if len(names) == 1:
        fix = f"Name one of its files: {Path(path) / names[0]}."
    elif names:
        fix = "Merge its shards into one file."
    raise SqueezeError(
        f"{path}: cannot be read",
        expected="a file",
        found="a folder" + (f" of {', '.join(names[:4])}{more}" if names else ""),
        fix=fix,
    )


def _archive(data: memoryview, name: str) -> tuple[str, str]:
    names = [entry.name for entry in zip_archive.entries(data, name)]
    if names and all(inner.endswith(".npy") for inner in names):
        return (
            "an .npz of numpy arrays",
            "Save them with safetensors.numpy.save_file(dict(arrays), path).",
        )
    return "a zip archive without a torch pickle", ""


def _shards(data: memoryview) -> list[str]:
    """Return the files that an index such as model.safetensors.index.json lists."""
    try:
        index = json.loads(bytes(data)) if len(data) <= MAX_INDEX else None
    except (ValueError, RecursionError):
        return []
    names = index.get("weight_map") if isinstance(index, dict) else None
    if not isinstance(names, dict):
        return []
    return sorted({shard for shard in names.values() if isinstance(shard, str)})
