"""Damaged and lying files of others: each class has its own error."""

import io
import json
import lzma
import os
import pickle
import struct
import zipfile
import zlib

import brotli
import pytest
import zstandard
from click.testing import CliRunner
from safetensors.torch import save

from squeeze.cli.budget_cmd import command
from squeeze.errors import BadCheckpoint, CorruptData, SqueezeError, UnsupportedFormat
from squeeze.ledger.attribute import attribute_paths
from squeeze.outside import llama_bin, pickles
from tests.squeeze.outside.exports import (
    CODES,
    GOOD,
    group_file,
    int8_export,
    llama,
    torch_file,
)


def zip_of(**entries):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, data in entries.items():
            archive.writestr(f"a/{name.replace('_', '.')}", data)
    return buffer.getvalue()


def patched(data, old, new):
    assert data.count(old) >= 1 and len(old) == len(new)
    return data.replace(old, new)


def safetensors_with(**entry):
    base = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]} | entry
    header = json.dumps({"x": base}).encode()
    return len(header).to_bytes(8, "little") + header + bytes(8)


PICKLE = b"\x80\x02%s."
MALFORMED = {
    "zlib cut off": ("m.ptz", lambda: zlib.compress(int8_export())[:-9], CorruptData, "cut off"),
    "zlib followed": ("m.ptz", lambda: zlib.compress(int8_export()) + b"x", CorruptData, "after the"),
    "zlib damaged": ("m.ptz", lambda: b"\x78\x9c" + b"\xff" * 9, CorruptData,
                     "not a whole zlib"),
    "zlib bomb": ("m.ptz", lambda: zlib.compress(bytes(70 << 20)), CorruptData, "too far"),
    "xz bomb": ("m.ptz", lambda: lzma.compress(bytes(70 << 20), preset=0), CorruptData, "too far"),
    "xz damaged": ("m.ptz", lambda: lzma.compress(b"a" * 99)[:-5], CorruptData, "cut off"),
    "brotli bomb": ("m.ptz", lambda: brotli.compress(bytes(70 << 20), quality=1), CorruptData,
                    "too far"),
    "zstd bomb": ("m.ptz", lambda: zstandard.compress(bytes(70 << 20)), CorruptData, "too far"),
    "zstd declares 1 TB": ("m.ptz", lambda: b"\x28\xb5\x2f\xfd\xe0" + (1 << 40).to_bytes(8, "little")
                           + b"\x01\0\0", CorruptData, "too far"),
    "zstd cut off": ("m.ptz", lambda: zstandard.compress(os.urandom(99))[:-7], CorruptData, "cut off"),
    "nested bomb": ("m.ptz", lambda: zlib.compress(zlib.compress(bytes(70 << 20))), CorruptData,
                    "too far"),
    "zip damaged": ("m.pt", lambda: torch_file({"a": CODES})[:-30], CorruptData, "damaged zip"),
    "pickle bomb": ("m.pt", lambda: zip_of(data_pkl=PICKLE % b"\x96\xff\xff\xff\xff\xff\0\0\0"),
                    CorruptData, "damaged pickle"),
    "pickle without stop": ("m.pt", lambda: zip_of(data_pkl=b"\x80\x02}"), CorruptData, "damaged"),
    "pickle of an empty stack": ("m.pt", lambda: zip_of(data_pkl=b"\x80\x020."), CorruptData,
                                 "damaged pickle"),
    "pickle with a strange opcode": ("m.pt", lambda: zip_of(data_pkl=PICKLE % b"\x82\x01"),
                                     BadCheckpoint, "EXT1"),
    "storage missing": ("m.pt", lambda: zip_of(data_pkl=zipfile.ZipFile(io.BytesIO(
        torch_file({"a": CODES}))).read("archive/data.pkl")), BadCheckpoint, "missing"),
    "storage short": ("m.pt", lambda: zip_of(data_pkl=zipfile.ZipFile(io.BytesIO(
        torch_file({"a": CODES}))).read("archive/data.pkl"), **{"data/0": b"x"}), CorruptData,
        "too short"),
    "tensor past its storage": ("m.pt", lambda: zip_of(data_pkl=zipfile.ZipFile(io.BytesIO(
        torch_file({"a": CODES}))).read("archive/data.pkl").replace(b"K\x18K \x86", b"K\x19K \x86"),
        **{"data/0": bytes(768)}), BadCheckpoint, "reaches over"),
    "safetensors overlap": ("m.safetensors", lambda: patched(save({"a": CODES, "b": CODES.clone()}),
                            b"[768,1536]", b"[  1, 769]"),
                            CorruptData, "overlap"),
    "safetensors past the end": ("m.safetensors", lambda: safetensors_with(
        shape=[4], data_offsets=[0, 16]), CorruptData, "over the end"),
    "safetensors sizes": ("m.safetensors", lambda: safetensors_with(shape=[3]), BadCheckpoint,
                          "disagree"),
    "safetensors shape": ("m.safetensors", lambda: safetensors_with(shape=[-2]), BadCheckpoint,
                          "odd shape"),
    "safetensors dtype": ("m.safetensors", lambda: safetensors_with(dtype="F3"), UnsupportedFormat,
                          "dtype"),
    "safetensors entry": ("m.safetensors", lambda: safetensors_with(data_offsets=7), BadCheckpoint,
                          "odd entry"),
    "safetensors header": ("m.safetensors", lambda: (9).to_bytes(8, "little") + b"{not json",
                           CorruptData, "not JSON"),
    "PGRP sizes": ("m.ptz", lambda: group_file()[:-1], CorruptData, "add up"),
    "PGRP count": ("m.ptz", lambda: b"PGRP\xff\xff\xff\xff", CorruptData, "number of streams"),
    "PGRP without shapes": ("m.ptz", lambda: group_file(s=None), CorruptData, "no shapes"),
    "PGRP odd shape": ("m.ptz", lambda: group_file(s={"_tok_emb.weight.q": [(-1, 2)]}), CorruptData,
                       "odd shape"),
    "llama.c version": ("m.bin", lambda: b"24ka" + bytes([9]) + bytes(300), UnsupportedFormat,
                        "version"),
    "llama.c header": ("m.bin", lambda: b"24ka\1\0\0\0", CorruptData, "cut off"),
    "llama.c shape": ("m.bin", lambda: b"24ka\1\0\0\0" + bytes(300), CorruptData, "impossible"),
    "llama.c size": ("m.bin", lambda: llama(1) + b"x", CorruptData, "disagree"),
    "llama.c group": ("m.bin", lambda: llama(2)[:37] + struct.pack("<i", 3) + llama(2)[41:],
                      CorruptData, "group size"),
    "script payload": ("t.py", lambda: GOOD["base85.py"]().replace(b"lzma.d", b"zlib.d"),
                       CorruptData, "not a whole zlib"),
    "script alphabet": ("t.py", lambda: GOOD["base64.py"]().replace(b"b64decode", b"b85decode")
                        .replace(b"/", b'\\"'), CorruptData, "b85decode"),
}  # fmt: skip


@pytest.mark.parametrize("case", MALFORMED)
def test_each_malformed_class_has_its_own_error(case, tmp_path):
    name, make, error, words = MALFORMED[case]
    (tmp_path / name).write_bytes(make())
    with pytest.raises(error, match=words):
        attribute_paths([tmp_path / name])


def test_a_pickle_of_too_many_opcodes_and_one_that_holds_itself_end():
    with pytest.raises(CorruptData, match="too long"):
        pickles.describe(b"\x80\x02" + b"N0" * (pickles.MAX_STEPS // 2) + b"N.", "x")
    loop = []
    loop.append(loop)
    root = pickles.describe(pickle.dumps(loop, 2), "x")
    assert list(pickles.tensors(root, "x")) == []


def test_llama_shapes_are_bounded_before_they_are_multiplied():
    huge = struct.pack("<7i", *[2**31 - 1] * 7)
    assert llama_bin.shape_of(memoryview(huge + bytes(99))) is None


def test_malformed_files_end_a_command_with_one_error(tmp_path):
    path = tmp_path / "m.ptz"
    path.write_bytes(zlib.compress(int8_export())[:-9])
    done = CliRunner().invoke(command, [str(path)])
    assert isinstance(done.exception, SqueezeError)
