"""Group containers are attributed to the byte and never decoded, whether lrzip is installed or not."""

from __future__ import annotations

import io
import os
import random
import struct
import subprocess
import sys
from pathlib import Path

import brotli
import pytest
import torch

from squeeze.ledger.attribute import attribute_paths
from squeeze.outside.group_container import GROUPS

NOISE = random.Random(3)
PRINT = (
    "import sys; from squeeze.ledger.attribute import attribute_paths; "
    "print(*attribute_paths(sys.argv[1:]).rows, sep='\\n')"
)


def torch_file(value: object) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()


def lrzip(plain: bytes, folder: Path) -> bytes:
    """A stream as lrzip writes it, or one that begins so where it is not installed."""
    source, stream = folder / "plain", folder / "plain.lrz"
    source.write_bytes(plain)
    try:
        subprocess.run(["lrzip", "-q", "-z", "-f", source], check=True, capture_output=True)
    except (FileNotFoundError, subprocess.CalledProcessError):
        return b"LRZI" + NOISE.randbytes(len(plain) // 2)
    return stream.read_bytes()


@pytest.fixture
def container(tmp_path: Path) -> Path:
    """Two layers of every kind of matrix, as the records order them."""
    shapes = {f"_{GROUPS[0]}.q": [(40, 16)]}
    shapes |= {f"{kind}.q": [(16, 16), (16, 16)] for kind in GROUPS[1:]}
    rest = torch_file({"r": {"skip_weights": torch.ones(4)}, "m": {}, "s": shapes})
    groups = [lrzip(NOISE.randbytes(512), tmp_path) for _ in GROUPS]
    streams = [*groups, brotli.compress(rest), brotli.compress(bytes(48))]
    sizes = struct.pack(f"<{1 + len(streams)}I", len(streams), *map(len, streams))
    path = tmp_path / "model.ptz"
    path.write_bytes(b"PGRP" + sizes + b"".join(streams))
    return path


def rows(container: Path, search_path: str) -> str:
    command = [sys.executable, "-c", PRINT, str(container)]
    done = subprocess.run(command, env={**os.environ, "PATH": search_path}, capture_output=True,
                          text=True, check=True)  # fmt: skip
    return done.stdout


def test_every_byte_of_a_group_container_has_a_row(container: Path) -> None:
    found = attribute_paths([container])
    assert found.unattributed == 0 and sum(row.bytes for row in found.rows) == found.total
    assert {row.layer for row in found.rows if row.codec == "lrzip"} == {None, 0, 1}
    assert len([row for row in found.rows if row.codec == "lrzip"]) == 13
    assert any("not decoded" in note for note in found.notes)


def test_rows_are_the_same_with_and_without_lrzip_and_it_is_never_started(
    container: Path, tmp_path: Path
) -> None:
    programs, started = tmp_path / "bin", tmp_path / "started"
    programs.mkdir()
    for name in ("lrzip", "lrunzip", "lrzcat"):
        (programs / name).write_text(f"#!/bin/sh\ntouch {started}\n")
        (programs / name).chmod(0o755)
    with_it, without = rows(container, str(programs)), rows(container, "")
    assert with_it == without != ""
    assert not started.exists()


def test_a_group_of_no_numbers_still_has_its_bytes(tmp_path: Path) -> None:
    rest = torch_file(
        {"r": {}, "m": {}, "s": {"mlp.fc.weight.q": [(0, 8)], "attn.c_q.weight.q": None}}
    )
    streams = [b""] * 2 + [b"LRZI1234"] + [b""] * 2 + [b"LRZI5678", b"", brotli.compress(rest), b""]
    sizes = struct.pack("<10I", 9, *map(len, streams))
    path = tmp_path / "m.ptz"
    path.write_bytes(b"PGRP" + sizes + b"".join(streams))
    found = attribute_paths([path])
    assert found.unattributed == 0 and sum(row.bytes for row in found.rows) == path.stat().st_size
