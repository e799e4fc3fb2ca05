"""What strangers can write where a reader expects something plain: endless nesting, any literal."""

from __future__ import annotations

import ast
import base64
import io
import json
import lzma
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import brotli
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import save

from squeeze.checkpoint.read import load_checkpoint, load_model
from squeeze.errors import CorruptData, SqueezeError
from squeeze.ledger.attribute import attribute_paths
from squeeze.outside import pickles, safe_tensors, source
from squeeze.outside.payload import ENCODINGS
from squeeze.outside.registry import read
from squeeze.outside.zip_archive import content, entries
from squeeze.submit.imports import imports_of_script
from squeeze.train.metadata import read_metadata

DEEP = 100_000
ONES = {"a": np.ones((2, 4), np.float32), "b": np.ones((2, 4), np.float32)}


def zipped(pickled: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("a/data.pkl", pickled)
    return buffer.getvalue()


# --- safetensors: one reader ---


def with_header(fields: str, size: int) -> bytes:
    header = fields.encode()
    return len(header).to_bytes(8, "little") + header + bytes(size)


def entry(begin: int, end: int, shape: str = "[4]", dtype: str = "F32") -> str:
    return f'{{"dtype":"{dtype}","shape":{shape},"data_offsets":[{begin},{end}]}}'


BAD_HEADERS = {
    "a name twice": (with_header(f'{{"a":{entry(0, 16)},"a":{entry(0, 16)}}}', 16), "twice"),
    "a field twice": (
        with_header('{"a":{"dtype":"F32","dtype":"F32","shape":[],"data_offsets":[0,4]}}', 4), "twice",
    ),
    "a hole": (with_header(f'{{"a":{entry(0, 16)},"b":{entry(20, 36)}}}', 36), "behind a hole"),
    "a hole before the first": (with_header(f'{{"a":{entry(4, 20)}}}', 20), "behind a hole"),
    "an overlap": (with_header(f'{{"a":{entry(0, 16)},"b":{entry(12, 28)}}}', 28), "overlaps"),
    "one place for two": (with_header(f'{{"a":{entry(0, 16)},"b":{entry(0, 16)}}}', 16), "overlaps"),
    "bytes behind the last": (with_header(f'{{"a":{entry(0, 16)}}}', 20), "after the last tensor"),
    "a tensor over the end": (with_header(f'{{"a":{entry(0, 16)}}}', 12), "over the end"),
    "another size": (with_header(f'{{"a":{entry(0, 12)}}}', 12), "size and shape disagree"),
    "an end before its begin": (with_header(f'{{"a":{entry(16, 0)}}}', 16), "odd data_offsets"),
    "true for a number": (
        with_header('{"a":{"dtype":"U8","shape":[1],"data_offsets":[false,true]}}', 1), "odd data_off",
    ),
    "a shape of lists": (with_header(f'{{"a":{entry(0, 16, "[[4]]")}}}', 16), "odd shape"),
    "no numbers of a shape that no array has": (
        with_header(f'{{"a":{entry(0, 0, f"[0,{1 << 47},{1 << 47}]")}}}', 0), "odd shape",
    ),
    "a shape as long as it may nest": (
        with_header(f'{{"a":{entry(0, 16, "[" * 900 + "]" * 900)}}}', 16), "odd shape|not JSON",
    ),
    "nesting without end": (with_header('{"a":' + "[" * DEEP, 0), "not JSON"),
    "an unknown dtype": (with_header(f'{{"a":{entry(0, 16, dtype="F4")}}}', 16), "unknown dtype"),
    "metadata of numbers": (with_header('{"__metadata__":{"x":5}}', 0), "odd metadata"),
    "half a character": (with_header(f'{{"\\ud800":{entry(0, 16)}}}', 16), "not JSON in UTF-8"),
    "a number of a million digits": (
        with_header('{"a":{"dtype":"F32","shape":[' + "9" * 1_000_000 + "]}}", 0), "not JSON",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD_HEADERS)
def test_the_ledger_and_the_reader_of_checkpoints_refuse_a_header_in_the_same_words(
    case: str, tmp_path: Path
) -> None:
    data, words = BAD_HEADERS[case]
    path = tmp_path / "m.safetensors"
    path.write_bytes(data)
    said = []
    for reader in (load_checkpoint, lambda path: attribute_paths([path])):
        with pytest.raises(SqueezeError, match=words) as caught:
            reader(path)
        said.append(str(caught.value))
    assert said[0] == said[1]


def many(count: int) -> bytes:
    fields = ",".join(f'"b.{i}":{entry(16 * i, 16 * i + 16)}' for i in range(count))
    return with_header("{" + fields + "}", 16 * count)


@pytest.mark.parametrize("count", [safe_tensors.MAX_TENSORS + 1, 300_000])
def test_more_tensors_than_an_artifact_holds_are_refused_by_both(
    count: int, tmp_path: Path
) -> None:
    path = tmp_path / "m.safetensors"
    path.write_bytes(many(count))
    for reader in (load_checkpoint, lambda path: attribute_paths([path])):
        with pytest.raises(CorruptData, match=r"too many tensors|header too long.*65536 tensors"):
            reader(path)


def test_the_most_tensors_are_read(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    path.write_bytes(many(safe_tensors.MAX_TENSORS))
    assert attribute_paths([path]).weights == 4 * safe_tensors.MAX_TENSORS
    assert len(load_checkpoint(path).tensors) == safe_tensors.MAX_TENSORS


def test_a_configuration_that_nests_without_end_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    path.write_bytes(save(ONES, {"squeeze.config": "[" * DEEP}))
    with pytest.raises(SqueezeError, match="not JSON"):
        load_checkpoint(path)


# --- pickles: deep, and never equal to themselves ---

TUPLES = b"\x85" * DEEP  # of one, around what lies on the stack
ORDERED = b"ccollections\nOrderedDict\n"
DEEP_PICKLES = {
    "tuples as a key": b"}N" + TUPLES + b"Ns",
    "tuples as a value": b"}U\x01aN" + TUPLES + b"s",
    "tuples in a key of a DICT": b"(N" + TUPLES + b"Nd",
    "tuples in a set": b"\x8f(N" + TUPLES + b"\x90",
    "tuples in a frozen set": b"(N" + TUPLES + b"\x91",
    "tuples as a format": b"}U\x10__quant_format__N" + TUPLES + b"s",
    "lists": b"]" * DEEP + b"a" * (DEEP - 1),
    "dictionaries": b"}U\x01a" * DEEP + b"N" + b"s" * DEEP,
    "an ordered dictionary of deep pairs": ORDERED + b"((](](N" + TUPLES + b"NeetttR",
    "calls": b"cos\nsystem\n" * DEEP + b"N\x85" + b"R\x85" * (DEEP - 1) + b"R",
    "ordered dictionaries called with each other": (
        ORDERED * DEEP + b")R" + b"\x85R" * (DEEP - 1)
    ),
    "a persistent id": b"N" + TUPLES + b"Q",
    "a shape": b"ctorch._utils\n_rebuild_tensor_v2\n((N" + TUPLES + b"K\0)tR",
    "a parameter": b"ctorch._utils\n_rebuild_parameter\n(N" + TUPLES + b"tR",
    "a number of a million bytes as a key": (
        b"}\x8b" + struct.pack("<i", 1 << 20) + b"\x01" * (1 << 20) + b"Ns"
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", DEEP_PICKLES)
def test_pickles_that_nest_without_end_are_read_or_refused_in_one_line(
    case: str, tmp_path: Path
) -> None:
    path = tmp_path / "m.pt"
    path.write_bytes(zipped(b"\x80\x04" + DEEP_PICKLES[case] + b"."))
    with pytest.raises(SqueezeError) as caught:
        load_checkpoint(path)
    assert "\n" not in str(caught.value)
    try:
        assert attribute_paths([path]).unattributed == 0
    except SqueezeError as error:
        assert "\n" not in str(error)


def test_an_ordered_dictionary_made_of_pairs_is_a_dictionary() -> None:
    made = ORDERED + b"(](](U\x01aK\x05e](U\x01bK\x06eetR."
    assert pickles.describe(b"\x80\x02" + made, "x") == {"a": 5, "b": 6}


def test_a_group_container_whose_shapes_nest_without_end_is_refused() -> None:
    shapes = b"}(U\x01r}U\x01s}U\x01a](N" + TUPLES + b"esu"
    streams = [b""] * 7 + [brotli.compress(zipped(b"\x80\x02" + shapes + b".")), b""]
    sizes = struct.pack(f"<{1 + len(streams)}I", len(streams), *map(len, streams))
    with pytest.raises(CorruptData, match="odd shape of a group"):
        read("m.ptz", b"PGRP" + sizes + b"".join(streams))


# --- scripts: any literal ---

SOURCE = b"\n".join(b"print(%d)" % (7919 * i % 10007) for i in range(300))
PAYLOAD = base64.b85encode(lzma.compress(SOURCE)).decode()
LONG = "0x" + "f" * 5_000  # a number that Python does not print
LITERALS = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(max_size=4) | st.binary(max_size=4)
    | st.complex_numbers() | st.integers() | st.sampled_from([3, -15, 31, 1 << 70, 0x21]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.tuples(inner)
        | st.dictionaries(
            st.sampled_from(["id", "dict_size", "preset", "lc", "x"]) | st.integers(), inner,
            max_size=3,
        )
    ),
    max_leaves=6,
)  # fmt: skip


def script(call: str, payload: str = PAYLOAD) -> bytes:
    text = f"base64.b85decode('{payload}')"
    return f"import lzma,zlib,bz2,base64\nexec({call.replace('DATA', text)})\n".encode()


def read_or_refused(data: bytes) -> str:
    """What the ledger makes of a script: rows that sum to it, or one line of refusal."""
    try:
        found = read("train_gpt.py", data)
    except SqueezeError as error:
        assert "\n" not in str(error)
        return str(error)
    assert found is not None and sum(row.bytes for row in found.rows) == len(data)
    return ""


ODD_CALLS = {
    "filters in lists": "lzma.decompress(DATA,3,None,[[[]]])",
    "filters in a tuple": "lzma.decompress(DATA,format=lzma.FORMAT_RAW,filters=({'id':33},))",
    "filters of nothing": "lzma.decompress(DATA,3,None,[])",
    "a filter of text": "lzma.decompress(DATA,3,None,['id'])",
    "a filter whose number is a list": "lzma.decompress(DATA,3,None,[{'id':[]}])",
    "a filter with a number beyond all": "lzma.decompress(DATA,3,None,[{'id':1<<9}])",
    "a filter without an end": "lzma.decompress(DATA,3,None,[{'id':" + LONG + "}])",
    "wbits as a list": "zlib.decompress(DATA,wbits=[[]])",
    "wbits beyond all": "zlib.decompress(DATA," + LONG + ")",
    "wbits of text": "zlib.decompress(DATA,'-15')",
    "a complex number with an endless part": "zlib.decompress(DATA,1" + "0" * 400 + "+1j)",
    "a place in the payload beyond all": (
        f"bytes(d(b[{LONG}:],s,{LONG})[1:]) + zlib.decompress(DATA)"
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", ODD_CALLS)
def test_a_call_with_an_odd_constant_is_refused_in_one_line(case: str) -> None:
    payload = base64.b85encode(np.random.default_rng(0).bytes(20_000)).decode()
    assert read_or_refused(script(ODD_CALLS[case], payload))


@given(
    st.sampled_from(["lzma", "zlib", "bz2"]),
    st.lists(LITERALS, max_size=4),
    st.dictionaries(st.sampled_from(["format", "filters", "wbits", "memlimit"]), LITERALS),
)
def test_any_literal_may_be_an_argument_of_decompress(
    module: str, positional: list[object], named: dict[str, object]
) -> None:
    arguments = ["DATA", *map(repr, positional), *(f"{key}={named[key]!r}" for key in named)]
    read_or_refused(script(f"{module}.decompress({','.join(arguments)})"))


@given(st.sampled_from(sorted(ENCODINGS)), st.text(max_size=90) | st.binary(max_size=90))
def test_any_literal_may_be_a_payload(encoding: str, payload: str | bytes) -> None:
    literal = repr(payload * 3)
    read_or_refused(f"exec(zlib.decompress(base64.{encoding}({literal})))\n".encode())


@pytest.mark.parametrize("decode", ["b85decode", "a85decode"])
def test_long_payloads_in_base85_are_decoded_as_python_decodes_them(decode: str) -> None:
    rng = np.random.default_rng(0)
    for size in (0, 1, 4, 300_001):
        data = rng.bytes(size) + bytes(size % 9 * 4)
        text = (
            base64.b85encode(data) if decode == "b85decode" else base64.a85encode(data, wrapcol=76)
        )
        assert ENCODINGS[decode](text.decode()) == data
    assert ENCODINGS["a85decode"](b"z" * 700_000) == bytes(4 * 700_000)
    with pytest.raises(ValueError, match="z inside"):
        ENCODINGS["a85decode"](b"!!z!!!")


@pytest.mark.parametrize(
    "literal", ["'''a\nb\\\n'''", '"a\\\nb"', "b'ab'", "'äö😀'", "r'''\r\n\n'''"]
)
def test_the_bytes_of_a_literal_are_those_of_its_text(literal: str) -> None:
    stub = f"x = 1; y = '😀'; payload = {literal}"
    text = f"import zlib\n\n{stub}\nexec(zlib.decompress(payload))\n"
    from squeeze.outside.script import _written

    nodes = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Constant)]
    node = max(nodes, key=lambda node: (node.lineno, node.col_offset))
    assert _written(text, "utf-8", node) == len(literal.encode())


def test_source_of_too_many_tokens_is_not_parsed_and_a_long_literal_is_one_token() -> None:
    assert source.parsed("x\n" * (source.MAX_TOKENS // 2 - 1)) is not None
    assert source.parsed("x\n" * source.MAX_TOKENS) is None
    payload = "y + " * source.MAX_TOKENS
    for quote in ('"', "'", '"""', "'''"):
        assert source.parsed(f"x = {quote}{payload}{quote}\n") is not None
    assert source.parsed(f'x = f"{{{payload}1}}"\n') is None
    assert source.parsed(f'x = f"{{1}}"; y = "{payload}"\n') is None  # better none than all
    assert source.parsed(f"# {payload}\n") is not None
    with pytest.raises(SqueezeError, match=r"Python of ≤ 200,000 tokens"):
        imports_of_script(b"x\n" * source.MAX_TOKENS)


# --- zip archives, read like the standard library reads them ---


def archive(write: Callable[[zipfile.ZipFile], None], before: bytes = b"") -> memoryview:
    buffer = io.BytesIO(before)
    buffer.seek(len(before))
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as opened:
        write(opened)
    return memoryview(buffer.getvalue())


def some(opened: zipfile.ZipFile) -> None:
    opened.writestr("a/ä.txt", b"x" * 999)
    opened.writestr("stored", b"y" * 99, zipfile.ZIP_STORED)
    opened.comment = b"a comment"
    with opened.open("wide", "w", force_zip64=True) as file:
        file.write(b"z" * 9)


@pytest.mark.parametrize("before", [b"", b"what stands before"])
def test_entries_are_those_of_the_standard_library(before: bytes) -> None:
    data = archive(some, before)
    with zipfile.ZipFile(io.BytesIO(data)) as opened:
        expected = {info.filename: opened.read(info) for info in opened.infolist()}
    found = {entry.name: bytes(content(data, entry, 999, "x")) for entry in entries(data, "x")}
    assert found == expected


@pytest.mark.parametrize(
    ("method", "words"), [(zipfile.ZIP_BZIP2, "method"), (zipfile.ZIP_LZMA, "method")]
)
def test_methods_that_torch_does_not_write_are_refused(method: int, words: str) -> None:
    data = archive(lambda opened: opened.writestr("a", b"x" * 99, method))
    (found,) = entries(data, "x")
    with pytest.raises(CorruptData, match=words):
        content(data, found, 999, "x")


def test_two_entries_of_one_name_are_refused() -> None:
    with pytest.warns(UserWarning, match="Duplicate name"):
        data = archive(lambda opened: [opened.writestr("a", b"x") for _ in range(2)] and None)
    with pytest.raises(CorruptData, match="two entries of one name"):
        entries(data, "x")


def test_an_entry_with_another_checksum_is_damaged() -> None:
    data = bytearray(archive(lambda opened: opened.writestr("a", b"x" * 99, zipfile.ZIP_STORED)))
    data[40] ^= 1
    (found,) = entries(memoryview(data), "x")
    with pytest.raises(CorruptData, match="'a' is damaged"):
        content(memoryview(data), found, 99, "x")


def test_the_files_of_the_field_are_read_as_torch_reads_them(materials: Path) -> None:
    import torch

    path = materials / "checkpoints" / "nolanvild_0.48M_fp32.pt"
    expected = torch.load(path, map_location="cpu", weights_only=True)
    model = load_model(path, like="baseline")
    assert all(np.array_equal(model.tensors[name], expected[name].numpy()) for name in expected)
    export = materials / "checkpoints" / "nolanvild_0.48M.int8.ptz"
    plain = torch.load(
        io.BytesIO(zlib.decompress(export.read_bytes())), map_location="cpu", weights_only=True
    )
    assert set(load_model(export, like="baseline").tensors) == {
        *plain["quantized"],
        *plain["passthrough"],
    }
    assert json.loads(model.config.to_json())["num_layers"] == 3


@pytest.mark.parametrize(
    "text", ['{"a":' + "[" * DEEP, '{"__metadata__":[1]}', '{"__metadata__":5}']
)
def test_metadata_that_is_none_is_empty(text: str, tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    path.write_bytes(with_header(text, 0))
    assert read_metadata(path) == {}
