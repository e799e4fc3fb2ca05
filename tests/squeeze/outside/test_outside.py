"""Files as others ship them, in the ledger: every byte in a row, nothing executed."""

import base64
import io
import lzma
import os
import pickle
import struct
import subprocess
import sys
import zipfile
import zlib

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from squeeze.bundle.emit.wrap import plain as plain_bundle
from squeeze.cli.budget_cmd import command
from squeeze.ledger.attribute import attribute_paths
from squeeze.outside import group_container
from squeeze.outside.registry import read
from tests.squeeze.outside.exports import (
    CODES,
    COMPRESSED,
    GOOD,
    SCRIPTS,
    SOURCE,
    group_file,
    torch_file,
)


@pytest.mark.parametrize("name", GOOD)
def test_rows_of_a_foreign_file_sum_to_it_and_hold_more_than_one_purpose(name, tmp_path):
    path = tmp_path / name
    path.write_bytes(GOOD[name]())
    result = attribute_paths([path])
    assert result.unattributed == 0 and result.total == path.stat().st_size
    assert len(result.rows) > 1 and all(row.bytes >= 0 for row in result.rows)


@pytest.mark.parametrize("name", COMPRESSED)
def test_a_compressed_export_is_split_over_its_tensors_and_says_that_it_is_a_share(name):
    found = read(name, GOOD[name]())
    codes = [row for row in found.rows if row.kind == "codes"]
    assert codes and codes[0].elements == CODES.numel() and codes[0].shared and codes[0].codec
    assert codes[0].bytes > 400  # of 768 codes with 5.4 bits
    assert any(row.kind == "step.fp16" and row.elements == 24 for row in found.rows)
    counts = np.unique(CODES.numpy(), return_counts=True)[1] / CODES.numel()
    floor = found.floors[name, codes[0].tensor, "codes"]
    assert floor == pytest.approx(-(counts * np.log2(counts)).sum() * CODES.numel() / 8)


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_self_extracting_script_is_stub_tax_and_payload(name):
    data = GOOD[name]()
    parts = {row.kind: row for row in read(name, data).rows}
    inside = [row for row in read(name, data).rows if row.kind == "payload"]
    assert sum(row.elements for row in inside) == len(SOURCE)
    assert f"are {len(SOURCE):,} of source" in read(name, data).notes[0]
    assert all(row.component == "code" for row in parts.values())
    if name == "base85.py":
        size = sum(row.bytes for row in inside)
        assert size == len(lzma.compress(SOURCE))
        assert 0.24 < parts["base85 tax"].bytes / size < 0.26
        assert parts["stub"].bytes < 80
    if name == "archive.py":
        assert "escapes" not in parts  # the payload stands there as it is


def test_an_ordinary_script_is_its_own_source(tmp_path):
    (tmp_path / "train.py").write_text('"""' + "x" * 99 + '"""\nexec(zlib.decompress(data))\n' * 9)
    (tmp_path / "plain.py").write_bytes(plain_bundle("print(1)").data)
    assert {row.kind for row in attribute_paths([tmp_path]).rows} == {"source"}


def test_a_script_that_decodes_its_text_in_an_unknown_way_is_its_own_source(tmp_path):
    text = zlib.compress(SOURCE).hex()
    (tmp_path / "own.py").write_text(f"import zlib\nexec(zlib.decompress(bytes(own('{text}'))))\n")
    assert {row.kind for row in attribute_paths([tmp_path]).rows} == {"source"}


def test_nothing_in_a_script_or_a_pickle_runs(tmp_path):
    (tmp_path / "evil.py").write_bytes(
        b"import lzma,base64\nopen('ran','w')\nexec(lzma.decompress(base64.b85decode('"
        + base64.b85encode(lzma.compress(SOURCE)) + b"')))\n"
    )  # fmt: skip

    class Evil:
        def __reduce__(self):
            return os.system, ("touch ran",)

    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("a/data.pkl", pickle.dumps({"x": Evil()}, protocol=2))
    (tmp_path / "evil.pt").write_bytes(buffer.getvalue())
    code = (
        "from squeeze.ledger.attribute import attribute_paths; print(*attribute_paths(['.']).notes)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert "system when it is unpickled; nothing was executed here" in done.stdout
    assert not (tmp_path / "ran").exists()


def test_unsigned_bytes_may_be_packed_codes_and_the_ledger_says_so():
    signed, unsigned = (
        read("m.pt", torch_file({"w": {"mlp.fc.weight.q": torch.zeros(96, dtype=number)}})).notes
        for number in (torch.int8, torch.uint8)
    )
    assert not signed and "96 unsigned bytes count as a weight each" in unsigned[0]


def test_groups_are_split_by_number_of_codes_and_named_by_layer():
    rows = read("groups.ptz", group_file()).rows
    fc = [row for row in rows if row.role == "mlp.fc"]
    assert [(row.layer, row.bytes, row.elements, row.codec) for row in fc] == [
        (0, 100, 768, "lrzip"), (1, 100, 768, "lrzip"),
    ]  # fmt: skip
    assert all(row.shared for row in fc)


def test_tied_and_viewed_storages_are_counted_once(tmp_path):
    bank = torch.randn(4, 8)
    path = tmp_path / "tied.pt"
    path.write_bytes(torch_file({"a": bank, "b": bank, "c": bank[:2], "d": bank[2:]}))
    result = attribute_paths([path])
    assert result.unattributed == 0
    stored = sum(row.bytes for row in result.rows if row.component == "weights")
    assert stored == 4 * 8 * 4


def test_any_bytes_may_be_called_ptz_and_are_then_one_row(tmp_path):
    (tmp_path / "noise.ptz").write_bytes(np.random.default_rng(1).bytes(999))
    assert [row.kind for row in attribute_paths([tmp_path]).rows] == ["file"]


def test_links_in_a_folder_are_reported_and_not_followed(tmp_path):
    inside = tmp_path / "submission"
    inside.mkdir()
    (tmp_path / "secret").write_bytes(bytes(99))
    (inside / "own").write_bytes(bytes(7))
    (inside / "leak").symlink_to(tmp_path / "secret")
    (inside / "up").symlink_to(tmp_path)
    result = attribute_paths([inside])
    assert result.total == 7
    assert sum("symbolic link, not followed" in note for note in result.notes) == 2


def test_streams_of_an_unknown_order_are_rows_of_their_own():
    data = b"PGRP" + struct.pack("<3I", 2, 3, 4) + b"abcdefg"
    found = read("m.ptz", data)
    assert [row.bytes for row in found.rows] == [16, 3, 4] and len(group_container.GROUPS) == 7


@pytest.mark.parametrize("name", ["final_model.int8.ptz", "shuffled.ptz", "model.pt"])
def test_squeezed_says_in_one_line_what_the_file_would_be(name, tmp_path):
    path = tmp_path / name
    path.write_bytes(GOOD[name]())
    done = CliRunner().invoke(command, [str(path), "--squeezed", "--floors"])
    assert done.exit_code == 0, done.output
    assert "squeeze would make this" in done.output and "losslessly (-" in done.output


def test_reading_files_of_others_loads_neither_torch_nor_numba(tmp_path):
    for name, make in GOOD.items():
        (tmp_path / name).write_bytes(make())
    code = (
        "import sys; from squeeze.ledger.attribute import attribute_paths;"
        "attribute_paths(sys.argv[1:]);"
        "print([m for m in ('torch', 'numba') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, tmp_path], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
