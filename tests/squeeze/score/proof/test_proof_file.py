"""The proof file: what is written is read back, and every malformed header has its own error."""

from __future__ import annotations

import zlib
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from squeeze.codecs.coder import varint
from squeeze.errors import CorruptData, SqueezeError, UnsupportedFormat
from squeeze.score.proof.file import MAGIC, Proof

PROOF = Proof(
    artifact=b"arti",
    tokenizer=b"toke",
    digest=b"digested",
    documents=107,
    tokens=131_072,
    batch=64,
    threads=1,
    machine="2.13.0 AVX512",
    mode={},
    payload=b"coded text",
)
FIXED = 5 + 4 + 4 + 8  # bytes before the first number


def sealed(content: bytes) -> bytes:
    return content + zlib.crc32(content).to_bytes(4, "little")


def with_numbers(*numbers: int, rest: bytes = b"\x00\x00") -> bytes:
    return sealed(PROOF.to_bytes()[:FIXED] + b"".join(map(varint.write, numbers)) + rest)


def with_texts(machine: bytes, mode: bytes) -> bytes:
    texts = b"".join(varint.write(len(text)) + text for text in (machine, mode))
    return with_numbers(1, 1, 1, 1, rest=texts)


def test_a_header_without_options_takes_46_bytes() -> None:
    assert len(PROOF.to_bytes()) - len(PROOF.payload) == 46


@given(
    payload=st.binary(max_size=50),
    documents=st.integers(1, 1 << 31),
    tokens=st.integers(0, 1 << 31),
    mode=st.dictionaries(st.text(max_size=5), st.integers() | st.text(max_size=5), max_size=3),
)
def test_what_is_written_is_read_back(payload, documents, tokens, mode) -> None:  # type: ignore[no-untyped-def]
    proof = replace(PROOF, payload=payload, documents=documents, tokens=tokens, mode=mode, batch=1)
    assert Proof.from_bytes(proof.to_bytes()) == proof


def test_every_flipped_bit_is_found_before_anything_is_decoded() -> None:
    data = PROOF.to_bytes()
    for bit in range(8 * len(data)):
        flipped = bytearray(data)
        flipped[bit // 8] ^= 1 << bit % 8
        with pytest.raises(SqueezeError):
            Proof.from_bytes(bytes(flipped))


def test_every_truncation_is_found() -> None:
    data = PROOF.to_bytes()
    for length in range(len(data)):
        with pytest.raises(SqueezeError):
            Proof.from_bytes(data[:length])


@pytest.mark.parametrize(
    ("data", "error", "message"),
    [
        (b"", UnsupportedFormat, "not a file of squeeze prove"),
        (b"SQZ\x1a" + bytes(60), UnsupportedFormat, "not a file of squeeze prove"),
        (MAGIC + b"\x01", CorruptData, "too short"),
        (MAGIC + b"\x02" + bytes(60), UnsupportedFormat, "unknown version"),
        (PROOF.to_bytes()[:-1], CorruptData, "checksum"),
        (PROOF.to_bytes() + b"\x00", CorruptData, "checksum"),
        (with_numbers(0, 0, 1, 1), CorruptData, "documents"),
        (with_numbers((1 << 31) + 1, 0, 1, 1), CorruptData, "documents"),
        (with_numbers(1, (1 << 31) + 1, 1, 1), CorruptData, "tokens"),
        (with_numbers(9, 9, 0, 1), CorruptData, "batch"),
        (with_numbers(9, 9, 10, 1), CorruptData, "batch"),
        (with_numbers(1 << 20, 9, 1 << 13, 1), CorruptData, "batch"),
        (with_numbers(9, 9, 9, 0), CorruptData, "threads"),
        (with_numbers(9, 9, 9, 1 << 11), CorruptData, "threads"),
        (with_numbers(9, 9, 9, 1, rest=b"\x80\x80\x01"), CorruptData, "length of machine"),
        (with_numbers(9, 9, 9, 1, rest=b"\x05ab"), CorruptData, "runs over the end"),
        (
            with_numbers(9, 9, 9, 1, rest=b"\x80\x00"),
            CorruptData,
            "length of machine is not in its shortest",
        ),
        (with_texts(b"\xff", b""), CorruptData, "machine is not UTF-8"),
        (with_texts(b"a\nb", b""), CorruptData, "machine is not printable"),
        (with_texts(b"", b"\xff"), CorruptData, "mode is not UTF-8"),
        (with_texts(b"", b"{"), CorruptData, "mode is not JSON"),
        (with_texts(b"", b"[" * 4000), CorruptData, "mode is not JSON"),
        (with_texts(b"", b"[]"), CorruptData, "canonical"),
        (with_texts(b"", b"{}"), CorruptData, "canonical"),
        (with_texts(b"", b'{"b":1,"a":2}'), CorruptData, "canonical"),
        (with_texts(b"", b'{"a": 1}'), CorruptData, "canonical"),
    ],
)
def test_each_malformed_header_has_its_own_error(
    data: bytes, error: type[SqueezeError], message: str
) -> None:
    with pytest.raises(error, match=message):
        Proof.from_bytes(data)
