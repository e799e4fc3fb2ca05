"""Files as others ship them, in the ledger: every byte in a row, nothing executed, each lie named."""

import base64
import bz2
import gzip
import io
import json
import lzma
import os
import pickle
import struct
import subprocess
import sys
import zipfile
import zlib
from collections import Counter

import brotli
import numpy as np
import pytest
import torch
import zstandard
from click.testing import CliRunner
from safetensors.torch import save

from squeeze.artifact import container
from squeeze.artifact.file import encode
from squeeze.artifact.streams import Artifact
from squeeze.bundle.emit.payload import payloads
from squeeze.bundle.emit.wrap import plain as plain_bundle
from squeeze.bundle.emit.wrap import wrap
from squeeze.cli import cli
from squeeze.cli.budget_cmd import command
from squeeze.errors import BadCheckpoint, CorruptData, SqueezeError, UnsupportedFormat
from squeeze.ledger.attribute import attribute_paths
from squeeze.outside import group_container, inflate, llama_bin, pickles
from squeeze.outside.registry import read
from squeeze.tensors.floats import to_bits
from squeeze.tensors.quantized import RawTensor

CODES = torch.from_numpy(np.random.default_rng(0).integers(-20, 21, (24, 32), dtype=np.int8))
SCALE = torch.linspace(0.01, 0.02, 24).half()
SOURCE = b"\n".join(b"print(%d)" % (7919 * i % 10007) for i in range(300))


def torch_file(value):
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()


def int8_export():
    return torch_file({
        "__quant_format__": "int8_clean_per_row_v1",
        "quantized": {"blocks.0.mlp.fc.weight": CODES},
        "scales": {"blocks.0.mlp.fc.weight": SCALE},
        "dtypes": {"blocks.0.mlp.fc.weight": "bfloat16"},
        "passthrough": {"blocks.0.attn_scale": torch.arange(32.0)},
        "passthrough_orig_dtypes": {},
    })  # fmt: skip


def mixed_export():
    return torch_file({
        "w": {
            "tok_emb.weight.q": CODES, "tok_emb.weight.scale": SCALE,
            "tok_emb.weight.lqA_a": CODES[:, :4].contiguous(), "skip_weights": SCALE[:8].clone(),
        },
        "m": {"tok_emb.weight": "gptq (int6)+lqer_asym"},
    })  # fmt: skip


def shuffled(data, stride=2, mark=True):
    planes = b"".join(data[plane::stride] for plane in range(stride))
    return (b"BSHF" + bytes([stride]) if mark else b"") + planes


def group_file(**changes):
    groups = [b"LRZI" + bytes(96)] + [b""] * 4 + [b"LRZI" + bytes(196), b""]
    rest = {
        "r": {"tok_emb.weight.scale": SCALE, "skip_weights": SCALE[:8].clone()},
        "m": {"tok_emb.weight": "gptq (int7)"},
        "s": {"_tok_emb.weight.q": [(24, 32)],
              "mlp.fc.weight.q": [torch.Size([24, 32]), torch.Size([24, 32])]},
    }  # fmt: skip
    rest |= changes
    streams = [*groups, brotli.compress(torch_file(rest)), brotli.compress(bytes(48))]
    sizes = [len(s) for s in streams]
    return b"PGRP" + struct.pack(f"<{1 + len(sizes)}I", len(sizes), *sizes) + b"".join(streams)


def llama(version, vocab=20):
    dim, hidden, layers, heads, kv, length = 8, 16, 2, 2, 1, 4
    shape = struct.pack("<7i", dim, hidden, layers, heads, kv, vocab, length)
    matrices = layers * (2 * dim * dim + 2 * dim * dim // 2 + 3 * dim * hidden) + abs(vocab) * dim
    norms = (2 * layers + 1) * dim
    if version == 0:
        head = abs(vocab) * dim if vocab < 0 else 0
        return shape + bytes(4 * (matrices + norms + length * dim // heads + head))
    head = b"24ka" + struct.pack("<i", version) + shape + b"\1" + struct.pack("<i", 8)
    body = matrices * 4 if version == 1 else matrices + matrices // 8 * 4
    return head.ljust(256, b"\0") + bytes(4 * norms + body)


def script(encode, undo, coder):
    text = encode(coder(SOURCE)).decode()
    return f'import lzma,zlib,brotli as B,base64 as b\nexec({undo}("{text}")))\n'.encode()


GOOD = {
    "final_model.int8.ptz": lambda: zlib.compress(int8_export(), 9),
    "int6-lzma.ptz": lambda: lzma.compress(mixed_export()),
    "int6-lzma-alone.ptz": lambda: lzma.compress(mixed_export(), lzma.FORMAT_ALONE),
    "int6-zstd.ptz": lambda: zstandard.compress(mixed_export(), 22),
    "int6-brotli.ptz": lambda: brotli.compress(mixed_export()),
    "int6-gzip.ptz": lambda: gzip.compress(mixed_export()),
    "int6-bz2.ptz": lambda: bz2.compress(mixed_export()),
    "shuffled.ptz": lambda: brotli.compress(shuffled(mixed_export())),
    "shuffled-3.ptz": lambda: zstandard.compress(shuffled(mixed_export(), 3)),
    "shuffled-unmarked.ptz": lambda: lzma.compress(shuffled(mixed_export(), 4, mark=False)),
    "groups.ptz": group_file,
    "model.safetensors": lambda: save({"lm_head.weight": CODES.float(), "n": CODES.long()}),
    "model.pt": lambda: torch_file({"model": {"_orig_mod.tok_emb.weight": CODES.float()}}),
    "stories.bin": lambda: llama(0),
    "untied.bin": lambda: llama(0, -20),
    "v1.bin": lambda: llama(1),
    "v2.bin": lambda: llama(2),
    "base85.py": lambda: script(base64.b85encode, "lzma.decompress(b.b85decode", lzma.compress),
    "base64.py": lambda: script(base64.b64encode, "zlib.decompress(b.b64decode", zlib.compress),
    "brotli85.py": lambda: script(base64.b85encode, "B.decompress(b.b85decode", brotli.compress),
    "literal.py": lambda: wrap(next(payloads(SOURCE, ("lzma",))), "literal").data,
    "archive.py": lambda: wrap(next(payloads(SOURCE, ("zlib",))), "archive").data,
}  # fmt: skip
COMPRESSED = [name for name in GOOD if name.endswith(".ptz") and name != "groups.ptz"]
SCRIPTS = [name for name in GOOD if name.endswith(".py")]


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


def compressed(data):
    return zlib.compress(data)


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


def test_the_byte_shuffle_is_undone_for_any_length():
    data = b"PK\x03\x04" + np.random.default_rng(2).bytes(57)
    for stride in (2, 3, 4, 7):
        assert inflate.unshuffled(shuffled(data, stride)) == (data, stride)
    assert inflate.unshuffled(shuffled(data, 4, mark=False)) == (data, 4)
    assert inflate.unshuffled(data) == (data, 0)


@pytest.mark.parametrize("coder", ["zlib", "gzip", "bz2", "xz", "lzma", "zstd", "brotli"])
def test_streams_of_several_buffers_come_back_whole_and_cut_ones_do_not(coder):
    data = np.random.default_rng(3).integers(0, 12, 3 << 20, np.uint8).tobytes()
    packed = {
        "zlib": lambda: zlib.compress(data, 1),
        "gzip": lambda: gzip.compress(data, 1),
        "bz2": lambda: bz2.compress(data, 1),
        "xz": lambda: lzma.compress(data, preset=0),
        "lzma": lambda: lzma.compress(data, lzma.FORMAT_ALONE, preset=0),
        "zstd": lambda: zstandard.compress(data, 1),
        "brotli": lambda: brotli.compress(data, quality=1),
    }[coder]()
    assert inflate.inflate(packed, coder, "x") == data
    for cut in (len(packed) - 1, len(packed) // 2):
        with pytest.raises(CorruptData, match="cut off"):
            inflate.inflate(packed[:cut], coder, "x")


def test_llama_shapes_are_bounded_before_they_are_multiplied():
    huge = struct.pack("<7i", *[2**31 - 1] * 7)
    assert llama_bin.shape_of(memoryview(huge + bytes(99))) is None


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


def test_malformed_files_end_a_command_with_one_error(tmp_path):
    path = tmp_path / "m.ptz"
    path.write_bytes(zlib.compress(int8_export())[:-9])
    done = CliRunner().invoke(command, [str(path)])
    assert isinstance(done.exception, SqueezeError)


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


def test_attribution_is_total_for_real_artifacts_and_for_ours(materials, tmp_path):
    folder = materials / "checkpoints"
    tensor = RawTensor(to_bits(np.ones((4, 4), np.float32), "fp32"), "fp32")
    (tmp_path / "ours.sqz").write_bytes(encode(Artifact({"model": {}}, {"a": tensor})))
    for name in ("literal.py", "archive.py"):
        (tmp_path / name).write_bytes(GOOD[name]())
    paths = [*sorted(folder.iterdir()), *sorted(tmp_path.iterdir())]
    paths += [materials / "fineweb" / "fineweb_train_000000_sp1024_1M.bin"]
    paths += sorted((materials / "tokenizers").iterdir())[:1]
    assert len(paths) >= 10
    for path in paths:
        result = attribute_paths([path])
        assert result.unattributed == 0 and result.total == path.stat().st_size, path
        if path.parent == folder:
            assert result.weights > 100_000 and len(result.rows) > 20, path


OURS = {
    "lossless": ["--lossless"],
    "int6": ["--quant", "all=6:12.85"],
    "int3, embedding in bf16": ["--quant", "all=3", "--quant", "embed=bf16"],
    "every matrix in integers": ["--quant", "all=5", "--small", "0", "--small-floats", "fp32"],
    "as the baseline": ["--preset", "baseline-int8-zlib"],
}


@pytest.mark.parametrize("name", ["nolanvild_0.48M_fp32.pt", "nolanvild_0.48M.int8.ptz"])
def test_rows_of_our_artifacts_are_their_streams_to_the_byte(materials, name, tmp_path):
    made = {}
    for number, (kind, options) in enumerate(OURS.items()):
        if name.endswith(".ptz") and kind != "lossless":
            continue
        path = tmp_path / f"{number}.sqz"
        arguments = [materials / "checkpoints" / name, "-o", path, *options, "--json"]
        arguments += ["--seq-len", 256, "--mlp-power", 3]
        done = CliRunner().invoke(cli, ["pack", *map(str, arguments)])
        assert done.exit_code == 0, (kind, done.output)
        made[kind] = path
    for kind, path in made.items():
        data = path.read_bytes()
        parsed, rows = container.parse(data), attribute_paths([path]).rows
        assert sum(row.bytes for row in rows) == len(data), kind
        assert all(row.bytes >= 0 for row in rows) and attribute_paths([path]).unattributed == 0
        streams, held = Counter(), Counter()
        for stream in parsed.streams:
            streams[stream.kind] += stream.size
        for row in rows:
            held[row.kind] += row.bytes if row.component == "weights" else 0
        assert +held == +streams, kind
        assert {row.tensor for row in rows if row.tensor} == {t.name for t in parsed.tensors}
    together = attribute_paths(sorted(made.values()))
    assert together.unattributed == 0
    assert together.total == sum(path.stat().st_size for path in made.values())
