"""What is wrong with a file × who reads it: the error it must give, or what a tolerant one returns.

Four classes for every reader of `targets.py`: truncated (half of a file), flipped (bits of what the
format can check), foreign (another magic, format or version) and oversized (a header that declares far
more than the file holds, or a stream that inflates without end). More of each format's own errors stand
beside its reader's tests.
"""

from __future__ import annotations

import io
import json
import lzma
import struct
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from engine import CORPUS

from squeeze.errors import (
    BadCheckpoint,
    BadConfig,
    BadData,
    CorruptData,
    SqueezeError,
    UnsupportedFormat,
)
from squeeze.files.arrays import OtherKey
from squeeze.score.audit.client import SubmissionFailed
from squeeze.submit.plain import BadSubmission

CLASSES = ("truncated", "flipped", "foreign", "oversized")
TERABYTE = 1 << 40
GOLDEN = Path(__file__).parents[1] / "golden-errors"


@dataclass(frozen=True)
class Refused:
    """The file gives exactly this error, with these words."""

    make: Callable[[], bytes]
    error: type[SqueezeError]
    words: str


@dataclass(frozen=True)
class Tolerated:
    """The reader makes `value` of the file, because of `reason`."""

    make: Callable[[], bytes]
    value: object
    reason: str


Case = Refused | Tolerated


def file(reader: str, name: str = "") -> bytes:
    """A committed good file of a reader."""
    path = CORPUS / reader / name if name else min((CORPUS / reader).iterdir())
    return path.read_bytes()


def half(reader: str, name: str = "") -> Callable[[], bytes]:
    return lambda: file(reader, name)[: len(file(reader, name)) // 2]


def flipped(reader: str, at: int, name: str = "", bit: int = 4) -> Callable[[], bytes]:
    """One bit of byte `at`."""

    def make() -> bytes:
        data = bytearray(file(reader, name))
        data[at] ^= 1 << bit
        return bytes(data)

    return make


def gif(reader: str, name: str = "") -> Callable[[], bytes]:
    """The file with another format's first bytes."""
    return lambda: b"GIF89a" + file(reader, name)[6:]


def changed(reader: str, old: bytes, new: bytes, name: str = "") -> Callable[[], bytes]:
    def make() -> bytes:
        data = file(reader, name)
        assert old in data
        return data.replace(old, new, 1)

    return make


def with_json(reader: str, name: str = "", **changes: Any) -> Callable[[], bytes]:
    return lambda: json.dumps(json.loads(file(reader, name)) | changes).encode()


def endless_zlib(megabytes: int = 2048) -> bytes:
    """A zlib stream of zeros, without its end: a thousandth of what it inflates to."""
    coder = zlib.compressobj(9)
    head = coder.compress(bytes(1 << 20)) + coder.flush(zlib.Z_FULL_FLUSH)
    again = coder.compress(bytes(1 << 20)) + coder.flush(zlib.Z_FULL_FLUSH)
    return head + again * (megabytes - 1)


def tokens_that_declare_a_terabyte() -> bytes:
    """The state of tokenizing, with an array whose header says 2⁴⁰ bytes."""
    import numpy as np

    source = zipfile.ZipFile(io.BytesIO(file("tokenizing")))
    buffer, head = io.BytesIO(), io.BytesIO()
    facts = {"descr": "<u2", "fortran_order": False, "shape": (TERABYTE // 2,)}
    np.lib.format.write_array_header_1_0(head, facts)
    with zipfile.ZipFile(buffer, "w") as archive:
        for name in source.namelist():
            data = head.getvalue() if name == "train.npy" else source.read(name)
            archive.writestr(name, data)
    return buffer.getvalue()


def group_container(shapes: object) -> bytes:
    """A container of empty groups whose remainder says that they have these shapes."""
    import brotli
    import torch

    rest = io.BytesIO()
    torch.save({"r": {}, "m": {}, "s": shapes}, rest)
    streams = [b""] * 7 + [brotli.compress(rest.getvalue(), quality=1), b""]
    sizes = struct.pack(f"<{1 + len(streams)}I", len(streams), *map(len, streams))
    return b"PGRP" + sizes + b"".join(streams)


def stream_in_stream() -> bytes:
    """zlib in zlib: few bytes, then 16 MiB, which would be a gigabyte if they were a file."""
    inner = zlib.compressobj(0)
    plain = inner.compress(bytes(15 << 20)) + inner.flush(zlib.Z_FULL_FLUSH)
    return zlib.compress(plain + endless_zlib(1000)[2:], 9)


def zip_that_declares_a_terabyte(reader: str) -> bytes:
    """Its directory says that every entry inflates to a terabyte (zip64)."""
    source = zipfile.ZipFile(io.BytesIO(file(reader)))
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for info in source.infolist():
            archive.writestr(info.filename, source.read(info))
        for info in archive.filelist:
            info.file_size = TERABYTE
    return buffer.getvalue()


def safetensors_of(shape: list[int], size: int) -> bytes:
    """One tensor of this shape whose data end at `size`, of which nothing is there."""
    entry = {"dtype": "F32", "shape": shape, "data_offsets": [0, size]}
    header = json.dumps({"x": entry}).encode()
    return len(header).to_bytes(8, "little") + header


def script_with(payload: bytes) -> bytes:
    import base64

    text = base64.b85encode(payload).decode()
    return f'import lzma as L,base64 as b\nexec(L.decompress(b.b85decode("{text}")))\n'.encode()


def proof_with(tokens: int) -> bytes:
    from squeeze.score.proof.file import Proof

    return replace(Proof.from_bytes(file("proof")), tokens=tokens).to_bytes()


def shard_of(count: int) -> bytes:
    return file("shard")[:8] + struct.pack("<i", count) + file("shard")[12:]


KNOWN: dict[str, dict[str, Case]] = {
    "sqz": {
        "truncated": Refused(half("sqz"), CorruptData, "ends inside its header"),
        "flipped": Refused(flipped("sqz", 80), CorruptData, "checksum does not match"),
        "foreign": Refused(gif("sqz"), UnsupportedFormat, "not a .sqz file"),
        "oversized": Refused((GOLDEN / "elements.sqz").read_bytes, CorruptData, "too large together"),
        "oversized header": Refused((GOLDEN / "header-bomb.sqz").read_bytes, CorruptData,
                                    "past the cap"),
    },
    "ptz": {
        "truncated": Refused(half("ptz"), CorruptData, "cut off"),
        "flipped": Refused(flipped("ptz", 500), CorruptData, "not a whole zlib stream"),
        "foreign": Refused(gif("ptz"), UnsupportedFormat, "not a checkpoint squeeze reads"),
        "oversized": Refused(endless_zlib, CorruptData, "inflates too far"),
    },
    "ptz-inside": {
        "truncated": Refused(lambda: zlib.compress(half("ptz-inside")()), CorruptData,
                             "damaged zip archive"),
        "flipped": Refused(lambda: zlib.compress(flipped("ptz-inside", 1200)()), CorruptData,
                           "no header where it should"),
        "foreign": Refused(lambda: zlib.compress(gif("ptz-inside")()), UnsupportedFormat,
                           "found zlib of first bytes 474946"),
        "oversized": Refused(lambda: zlib.compress(zip_that_declares_a_terabyte("ptz-inside")),
                             CorruptData, "inflates too far"),
    },
    "pt": {
        "truncated": Refused(half("pt"), CorruptData, "damaged zip archive"),
        "flipped": Refused(flipped("pt", 2), UnsupportedFormat, "not a checkpoint squeeze reads"),
        "foreign": Refused(gif("pt"), UnsupportedFormat, "not a checkpoint squeeze reads"),
        "oversized": Refused(lambda: zip_that_declares_a_terabyte("pt"), CorruptData,
                             "inflates too far"),
    },
    "safetensors": {
        "truncated": Refused(lambda: file("safetensors")[:-2], CorruptData,
                             "runs over the end of the file"),
        "flipped": Refused(flipped("safetensors", 80), CorruptData, "header is not JSON"),
        "foreign": Refused(gif("safetensors"), UnsupportedFormat, "not a checkpoint squeeze reads"),
        "oversized": Refused(lambda: safetensors_of([1 << 38], TERABYTE), CorruptData,
                             "runs over the end of the file"),
        "oversized header": Refused(lambda: TERABYTE.to_bytes(8, "little") + file("safetensors")[8:],
                                    UnsupportedFormat, "not a checkpoint squeeze reads"),
    },
    "foreign": {
        "truncated": Refused(half("foreign", "xz"), CorruptData, "the stream is cut off"),
        "flipped": Refused(flipped("foreign", 500, "zlib"), CorruptData, "not a whole zlib stream"),
        "foreign": Tolerated(gif("foreign"), None, "a file of no known format is one row"),
        "oversized": Refused(
            lambda: b"\x28\xb5\x2f\xfd\xe0" + TERABYTE.to_bytes(8, "little") + b"\1\0\0",
            CorruptData, "inflates too far"),
        "oversized stream": Refused(endless_zlib, CorruptData, "inflates too far"),
        "oversized inside": Refused(stream_in_stream, CorruptData, "inflates too far"),
        "oversized group container": Refused(lambda: b"PGRP\xff\xff\xff\xff" + bytes(64), CorruptData,
                                             "number of streams"),
        "oversized group": Refused(lambda: b"PGRP" + struct.pack("<2I", 1, (1 << 32) - 1), CorruptData,
                                   "do not add up"),
        "oversized group of layers": Refused(
            lambda: group_container({"mlp.fc.weight.q": [(4, 8)] * 300_000}), CorruptData,
            "shapes of mlp.fc.weight"),
        "oversized safetensors": Refused(lambda: safetensors_of([1 << 38], TERABYTE), CorruptData,
                                         "runs over the end"),
    },
    "foreign-inside": {
        "truncated": Refused(lambda: zlib.compress(half("foreign-inside")()), CorruptData,
                             "damaged zip archive"),
        "flipped": Refused(lambda: zlib.compress(flipped("foreign-inside", 1200)()), CorruptData,
                           "no header where it should"),
        "foreign": Tolerated(lambda: zlib.compress(gif("foreign-inside")()), "zlib",
                             "what it inflates to is of no known format, which a note says"),
        "oversized": Refused(lambda: zlib.compress(zip_that_declares_a_terabyte("foreign-inside")),
                             CorruptData, "inflates too far"),
    },
    "llama-bin": {
        "truncated": Refused(half("llama-bin", "v1"), CorruptData, "size and shape disagree"),
        "flipped": Refused(flipped("llama-bin", 9, "v1"), CorruptData,
                           "size and shape disagree|impossible"),
        "foreign": Refused(changed("llama-bin", b"24ka\1", b"24ka\x09", "v1"), UnsupportedFormat,
                           "version"),
        "oversized": Refused(lambda: b"24ka" + struct.pack("<8i", 1, *[(1 << 31) - 1] * 7) + bytes(300),
                             CorruptData, "impossible"),
    },
    "script": {
        "truncated": Refused(lambda: script_with(lzma.compress(b"x = 1\n" * 99)[:-8]), CorruptData,
                             "cut off"),
        "flipped": Refused(flipped("script", 200, "base85"), CorruptData, "not a whole lzma stream"),
        "foreign": Refused(lambda: script_with(b"GIF89a" * 20), CorruptData, "not a whole lzma stream"),
        "oversized": Refused(lambda: script_with(lzma.compress(bytes(65 << 20), preset=0)), CorruptData,
                             "inflates too far"),
    },
    "shard": {
        "truncated": Refused(half("shard"), BadData, "too short for a shard header"),
        "flipped": Refused(flipped("shard", 8), BadData, "truncated"),
        "foreign": Refused(gif("shard"), BadData, "not a token shard"),
        "oversized": Refused(lambda: shard_of((1 << 31) - 1), BadData, "shard is truncated"),
    },
    "tokenizer": {
        "truncated": Refused(half("tokenizer"), BadData, "not a tokenizer"),
        "flipped": Refused(flipped("tokenizer", 1), BadData, "not a tokenizer"),
        "foreign": Refused(gif("tokenizer"), BadData, "not a tokenizer"),
        "oversized": Refused(lambda: b"\n\xff\xff\xff\xff\xff\x1f" + file("tokenizer")[2:], BadData,
                             "not a tokenizer"),
    },
    "plan": {
        "truncated": Refused(half("plan"), SqueezeError, "not JSON"),
        "flipped": Refused(flipped("plan", 3), SqueezeError, "not JSON"),
        "foreign": Refused(with_json("plan", version=2), SqueezeError, "another version"),
        "oversized": Refused(with_json("plan", size=1 << 62), SqueezeError, "size is"),
    },
    "gate": {
        "truncated": Refused(half("gate"), SqueezeError, "not JSON"),
        "flipped": Refused(flipped("gate", 0), SqueezeError, "not JSON"),
        "foreign": Refused(lambda: b'["a", 5]', SqueezeError, "not totals by commit"),
        "oversized": Refused(lambda: b'{"a": 1e999}', SqueezeError, "not JSON"),
    },
    "code-report": {
        "truncated": Refused(half("code-report"), SqueezeError, "not JSON"),
        "flipped": Refused(flipped("code-report", 0), SqueezeError, "not JSON"),
        "foreign": Refused(lambda: b'{"seconds": 3}', SqueezeError, "not the report of a bundle"),
        "oversized": Refused(
            lambda: b'{"parts": [{"module": "m", "name": "n", "bytes": 1e999}]}', SqueezeError,
            "not JSON"),
    },
    "eval-report": {
        "truncated": Refused(half("eval-report"), SqueezeError, "not JSON"),
        "flipped": Refused(flipped("eval-report", 0), SqueezeError, "not JSON"),
        "foreign": Refused(lambda: b'{"seconds": 3}', BadData, "expected"),
        "oversized": Refused(with_json("eval-report", bpb=float("inf")), SqueezeError, "not JSON"),
    },
    "proof": {
        "truncated": Refused(half("proof"), CorruptData, "checksum does not match|too short"),
        "flipped": Refused(flipped("proof", 30), CorruptData, "checksum does not match"),
        "foreign": Refused(gif("proof"), UnsupportedFormat, "not a file of squeeze prove"),
        "oversized": Refused(lambda: proof_with(TERABYTE), CorruptData, "tokens"),
    },
    "hello": {
        "truncated": Refused(half("hello"), SubmissionFailed, "not a JSON object"),
        "flipped": Refused(flipped("hello", 0), SubmissionFailed, "not a JSON object"),
        "foreign": Refused(with_json("hello", protocol=2), SubmissionFailed, "protocol"),
        "oversized": Refused(with_json("hello", vocab_size=TERABYTE), SubmissionFailed, "vocab_size"),
    },
    "answers": {
        "truncated": Refused(half("answers"), SubmissionFailed, "ended early"),
        "flipped": Refused(flipped("answers", 4), SubmissionFailed, "garbage instead of an answer"),
        "foreign": Refused(gif("answers"), SubmissionFailed, "garbage instead of an answer"),
        "oversized": Refused(lambda: b"\xff\xff\xff\xff" + file("answers")[4:], SubmissionFailed,
                             "garbage instead of an answer"),
    },
    "submission": {
        "truncated": Refused(half("submission"), SqueezeError, "expected a JSON object"),
        "flipped": Refused(flipped("submission", 0), SqueezeError, "expected a JSON object"),
        "foreign": Refused(with_json("submission", scorer=5), SqueezeError, "scorer"),
        "oversized": Refused(lambda: b" " * (33 << 20), SqueezeError, "too large"),
    },
    "parent": {
        "truncated": Refused(half("parent"), BadSubmission, "expected a JSON object"),
        "flipped": Refused(flipped("parent", 0), BadSubmission, "expected a JSON object"),
        "foreign": Refused(lambda: b"[]", BadSubmission, "expected a JSON object"),
        "oversized": Refused(lambda: b"[" * 100_000, BadSubmission, "expected a JSON object"),
    },
    "papers": {
        "truncated": Refused(half("papers"), BadSubmission, "expected a JSON object"),
        "flipped": Refused(flipped("papers", 0), BadSubmission, "expected a JSON object"),
        "foreign": Refused(lambda: b'{"seconds": 3}', BadSubmission, "no such field"),
        "oversized": Refused(with_json("papers", bytes_total=1 << 80), BadSubmission, "bytes_total"),
    },
    "run-log": {
        "truncated": Refused(half("run-log"), BadSubmission, "expected a JSON object"),
        "flipped": Refused(changed("run-log", b'"bpb": 1.25', b'"bpb": "x" '), BadSubmission,
                           "does not end with the facts of the run"),
        "foreign": Refused(lambda: b'{"seconds": 3}', BadSubmission,
                           "does not end with the facts of the run"),
        "oversized": Refused(lambda: b" " * (33 << 20), BadSubmission, "too large"),
    },
    "training": {
        "truncated": Refused(half("training"), BadSubmission, "expected a JSON object"),
        "flipped": Refused(flipped("training", 0), BadSubmission, "expected a JSON object"),
        "foreign": Refused(lambda: b'{"seconds": 3}', BadSubmission, "not a report of a training"),
        "oversized": Refused(lambda: b" " * (33 << 20), BadSubmission, "too large"),
    },
    "imports": {
        "truncated": Refused(half("imports", "packed"), BadSubmission, "neither Python nor a script"),
        "flipped": Refused(flipped("imports", 0, "plain"), BadSubmission,
                           "neither Python nor a script"),
        "foreign": Refused(gif("imports", "plain"), BadSubmission, "neither Python nor a script"),
        "oversized": Refused(lambda: script_with(lzma.compress(bytes(65 << 20), preset=0)), CorruptData,
                             "inflates too far"),
    },
    "run-state": {
        "truncated": Refused(half("run-state"), BadCheckpoint, "not the state of a run"),
        "flipped": Refused(flipped("run-state", 10), BadCheckpoint, "not the state of a run"),
        "foreign": Refused(lambda: file("safetensors"), BadCheckpoint, "not the state of a run"),
        "oversized": Refused(lambda: TERABYTE.to_bytes(8, "little") + file("run-state")[8:],
                             BadCheckpoint, "not the state of a run"),
    },
    "metadata": {
        name: Tolerated(make, {}, "a file without metadata has none; its reader reports the damage")
        for name, make in {
            "truncated": half("metadata"),
            "flipped": flipped("metadata", 8),
            "foreign": gif("metadata"),
            "oversized": lambda: TERABYTE.to_bytes(8, "little") + file("metadata")[8:],
        }.items()
    },
    "log": {
        name: Tolerated(make, value, "lines that are no steps are skipped: a killed run leaves one")
        for name, (make, value) in {
            "truncated": (lambda: b'{"step": 1, "loss": 2.5}\n{"step": 2, "lo',
                          [{"step": 1, "loss": 2.5}]),
            "flipped": (lambda: b'{"step": 1, "loss": 2.5}\n{"step": 2, "locs": 2.0}\n',
                        [{"step": 1, "loss": 2.5}]),
            "foreign": (lambda: b"GIF89a\0\xff", []),
            "oversized": (lambda: b'{"step": 1' + b"0" * 4000 + b', "loss": 1.0}\n', []),
        }.items()
    },
    "model-config": {
        "truncated": Refused(half("model-config"), BadConfig, "not JSON"),
        "flipped": Refused(flipped("model-config", 0), BadConfig, "not JSON"),
        "foreign": Refused(lambda: b'{"layers": 3}', BadConfig, "layers"),
        "oversized": Refused(with_json("model-config", num_layers=TERABYTE), BadConfig, "num_layers"),
    },
    "manifest": {
        "truncated": Refused(half("manifest"), BadData, "not a manifest"),
        "flipped": Refused(flipped("manifest", 0), BadData, "not a manifest"),
        "foreign": Refused(lambda: b'{"version": 3}', BadData, "not a manifest"),
        "oversized": Refused(
            lambda: file("manifest").replace(b'"files_train": ', b'"files_train": 1' + b"0" * 12),
            BadData, "number of shards"),
    },
    **{
        name: {
            "truncated": Refused(half(name), CorruptData, "not a file of named arrays"),
            "flipped": Refused(flipped(name, 10), CorruptData, "not a file of named arrays"),
            "foreign": Refused(lambda: file("safetensors"), OtherKey, "of other weights"),
            "oversized": Refused(lambda: TERABYTE.to_bytes(8, "little") + bytes(99), CorruptData,
                                 "not a file of named arrays"),
        }
        for name in ("hessians", "gradients", "calibration-text")
    },
    "tokenizing": {
        "truncated": Refused(half("tokenizing"), CorruptData, "damaged"),
        "flipped": Refused(flipped("tokenizing", 200), CorruptData, "damaged"),
        "foreign": Refused(gif("tokenizing"), CorruptData, "damaged"),
        "oversized": Refused(tokens_that_declare_a_terabyte, CorruptData, "damaged"),
    },
    "fetched": {
        name: Tolerated(make, {}, "a damaged record is none: files are compared with checksums anew")
        for name, make in {
            "truncated": half("fetched"),
            "flipped": flipped("fetched", 0),
            "foreign": lambda: b'["manifest.json"]',
            "oversized": lambda: b"[" * 100_000,
        }.items()
    },
    "sums": {
        name: Tolerated(make, {}, "lines that are no sums are skipped: such a file is not checked")
        for name, make in {
            "truncated": half("sums"),
            "flipped": flipped("sums", 3),
            "foreign": gif("sums"),
            "oversized": lambda: b"a" * (1 << 20),
        }.items()
    },
    **{
        target: {
            name: Tolerated(make, True, "a review names what it cannot read, and goes on")
            for name, make in {
                "truncated": half(target),
                "flipped": flipped(target, 3),
                "foreign": gif(target),
                "oversized": lambda: b"[" * 100_000,
            }.items()
        }
        for target in ("entrant-claims", "entrant-log")
    },
}  # fmt: skip
