"""Writes tests/golden and tests/golden-errors. Run by `make golden`, only with a format version bump.

Golden artifacts pin encoded bytes; each malformed file breaks one rule of docs/format.md and
`errors.json` says what the reader must answer.
"""

from __future__ import annotations

import json
import lzma
import zlib
from pathlib import Path

import numpy as np

from squeeze.artifact.file import encode
from squeeze.artifact.header import inflate_header
from squeeze.artifact.layout import FLOATS
from squeeze.artifact.streams import Artifact
from squeeze.calib.quantizers.round_to_nearest import quantize_rtn
from squeeze.codecs.coder import varint
from squeeze.tensors.floats import to_bits
from squeeze.tensors.quantized import QuantizedTensor, RawTensor

HERE = Path(__file__).parent


def sample(rows: int = 24, cols: int = 16) -> Artifact:
    """A small artifact with every tensor kind and float format."""
    rng = np.random.default_rng(7)
    weights = rng.standard_normal((rows, cols)).astype(np.float32)
    tensors: dict[str, RawTensor | QuantizedTensor] = {
        "a.weight": quantize_rtn(weights, 6, 12.85),
        "b.weight": quantize_rtn(weights.T.copy(), 12, None, step_format="fp32", logical="bf16"),
    }
    for number in FLOATS:
        bits = to_bits(weights[0], number)
        tensors[f"scale.{number}"] = RawTensor(bits, number, "fp32")
    indices = rng.integers(-3, 4, (rows, cols)).astype(np.int8)
    exponents = rng.integers(-8, 9, cols).astype(np.int8)
    tensors["t.weight"] = QuantizedTensor(
        indices, to_bits(np.full(rows, 0.25, np.float32), "fp16"), (rows, cols), "trellis",
        states=8, columns=exponents,
    )  # fmt: skip
    return Artifact({"model": {"note": "not a real model"}}, tensors)


def reseal(data: bytes) -> bytes:
    """Fix the checksum after a change, so that the reader gets past it."""
    crc = zlib.crc32(data[14:], zlib.crc32(data[:10]))
    return data[:10] + crc.to_bytes(4, "little") + data[14:]


def with_header(data: bytes, plain: bytes) -> bytes:
    """The file with another header, resealed; `plain` is compressed as §3 says."""
    filters = [{"id": lzma.FILTER_LZMA1, "dict_size": 1 << 16, "lc": 2, "lp": 0, "pb": 0}]
    header = lzma.compress(plain, format=lzma.FORMAT_RAW, filters=filters)
    return with_compressed_header(data, header)


def with_compressed_header(data: bytes, header: bytes) -> bytes:
    """The file with these bytes for its compressed header, resealed."""
    old = int.from_bytes(data[6:10], "little")
    size = len(header).to_bytes(4, "little")
    return reseal(data[:6] + size + data[10:22] + header + data[22 + old :])


def plain_header(data: bytes) -> bytes:
    """The inflated header of a valid file."""
    size = int.from_bytes(data[6:10], "little")
    return inflate_header(data[22 : 22 + size])


def malformed() -> dict[str, tuple[bytes, str]]:
    """name -> (file, text that its error must contain); one rule of the specification each."""
    good = encode(sample(), candidates=["raw"])
    plain = plain_header(good)
    one = with_header(good, fields(names=b"x"))
    return {
        "empty": (b"", "not a .sqz file"),
        "magic": (b"SQZ1" + good[4:], "not a .sqz file"),
        "short-prologue": (good[:20], "ends inside its prologue"),
        "version": (reseal(good[:4] + b"\x02" + good[5:]), "unknown .sqz version"),
        "flags": (reseal(good[:5] + b"\x01" + good[6:]), "reserved flags"),
        "header-size": (reseal(good[:6] + b"\xff" * 4 + good[10:]), "header is too large"),
        "header-cut": (good[:40], "ends inside its header"),
        "checksum": (good[:-1] + bytes([good[-1] ^ 1]), "file checksum does not match"),
        "digest": (reseal(good[:14] + bytes(8) + good[22:]), "not what was packed"),
        "extra-byte": (reseal(good + b"\0"), "do not end where the file ends"),
        "missing-byte": (reseal(good[:-1]), "do not end where the file ends"),
        "header-not-lzma": (with_compressed_header(good, b"\xff" * 40), "header"),
        "header-bomb": (with_header(good, bytes(9 << 20)), "inflates past the cap"),
        "header-trailing": (with_header(good, plain + b"\0"), "bytes after its last field"),
        "header-short": (with_header(good, plain[:-1]), "header ends inside"),
        "config-not-json": (with_header(good, fields(config=b"{")), "is not JSON"),
        "config-not-object": (with_header(good, fields(config=b"[]")), "is not an object"),
        "config-not-canonical": (with_header(good, fields(config=b'{"b":1,"a":2}')), "canonical"),
        "names-not-utf8": (with_header(good, fields(names=b"\xff")), "not UTF-8"),
        "names-count": (with_header(good, fields(names=b"x\ny")), "number of names"),
        "name-empty": (with_header(good, fields(names=b"")), "bad tensor name"),
        "name-control": (with_header(good, fields(names=b"a\tb")), "bad tensor name"),
        "name-twice": (with_header(good, fields(count=2, names=b"x\nx")), "occurs twice"),
        "varint-long-form": (with_header(good, b"\x82\x00{}" + fields()[3:]), "shortest form"),
        "varint-endless": (with_header(good, b"\xff" * 12), "longer than 9 bytes"),
        "too-many-tensors": (with_header(good, fields(count=1 << 17)), "tensor count is too large"),
        "kind": (with_header(good, fields(kind=9)), "field kind"),
        "stored-format": (with_header(good, fields(stored=9)), "field stored format"),
        "logical-format": (with_header(good, fields(logical=9)), "field logical format"),
        "dimensions": (with_header(good, fields(ndim=9)), "field number of dimensions"),
        "elements": (with_header(good, fields(shape=(1 << 20, 1 << 20))), "too large together"),
        "elements-for-size": (reseal_stream(fields(shape=((1 << 22) + 1,), size=4)),
                              "more weights than a file"),
        "stream-beyond-file": (one, "do not end where the file ends"),
        "unknown-codec": (reseal_stream(fields(codec=255, size=4)), "unknown codec number"),
        "codec-of-wrong-size": (reseal_stream(fields(shape=(2,), size=4)), "stream 0"),
    }  # fmt: skip


def fields(
    config: bytes = b"{}", count: int = 1, names: bytes = b"x", kind: int = 0, stored: int = 0,
    logical: int = 0, ndim: int | None = None, shape: tuple[int, ...] = (1,), codec: int = 1,
    size: int = 1 << 20,
) -> bytes:  # fmt: skip
    """A header of `count` equal tensors, one field of it perhaps wrong."""
    varint_bytes = varint.write
    return b"".join(
        [
            varint_bytes(len(config)), config, varint_bytes(count), varint_bytes(len(names)), names,
            bytes([kind] * count), bytes([stored] * count), bytes([logical] * count),
            bytes([len(shape) if ndim is None else ndim] * count),
            b"".join(varint_bytes(d) for d in shape) * count,
            bytes([codec]), varint_bytes(size),
        ]
    )  # fmt: skip


def reseal_stream(plain: bytes) -> bytes:
    """A file with this header and one stream of four zero bytes."""
    empty = encode(Artifact({}, {}))
    return reseal(with_header(empty, plain) + bytes(4))


def main() -> None:
    golden, errors = HERE / "golden", HERE / "golden-errors"
    for folder in (golden, errors):
        folder.mkdir(exist_ok=True)
        for old in folder.iterdir():
            old.unlink()
    (golden / "v1-raw.sqz").write_bytes(encode(sample(), candidates=["raw"]))
    (golden / "v1-default.sqz").write_bytes(encode(sample()))
    expected = {}
    for name, (data, text) in malformed().items():
        (errors / f"{name}.sqz").write_bytes(data)
        expected[name] = text
    (errors / "errors.json").write_text(json.dumps(expected, indent=1) + "\n")


if __name__ == "__main__":
    main()
