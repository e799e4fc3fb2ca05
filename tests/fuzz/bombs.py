"""Small files that ask for gigabytes: one for each way in which a format lets few bytes stand for many.

Run as a script with a folder of them, it reads each file with every reader that would take it and prints
the memory that took, in bytes beyond what the process had before the first, and what the reader said.
"""

from __future__ import annotations

import base64
import gc
import io
import json
import lzma
import struct
import sys
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

MIB = 1 << 20
SIZE = 400  # MiB that a stream inflates to
ZEROS = bytes(MIB)
WIDE, LARGE, GAUSSIAN = (1, 1 << 22), (1 << 14, 1 << 14), "range-gaussian"
# zlib of bz2.compress(bytes(400 MiB)), which takes seconds to make again
BZIP2 = (
    b"c-nJ{%CIzaj8qGb<l}sFpE17Af#CoH1BU{GL4&WG(*o6%Tn*Dl<w5eD5ublE"
    b"7<457<(VKV&ai4OQ&HHa(jwlyQ)!Ndhk^JeX9fVlA!U3"
)


def deflated(bits: int, size: int = SIZE) -> bytes:
    """A stream of zeros, without its end; bits: -15 for raw deflate, 15 for zlib, 31 for gzip."""
    coder = zlib.compressobj(9, zlib.DEFLATED, bits)
    first = coder.compress(ZEROS) + coder.flush(zlib.Z_FULL_FLUSH)
    again = coder.compress(ZEROS) + coder.flush(zlib.Z_FULL_FLUSH)
    return first + again * (size - 1)


def brotli_zeros() -> bytes:
    import brotli

    coder = brotli.Compressor(quality=5)
    first, again = (coder.process(ZEROS) + coder.flush() for _ in range(2))
    return first + again * (SIZE - 1)


def lzma_zeros(format: int) -> bytes:
    fast = {"id": lzma.FILTER_LZMA2, "dict_size": 1 << 16, "mode": lzma.MODE_FAST,
            "mf": lzma.MF_HC3, "depth": 1}  # fmt: skip
    coder = lzma.LZMACompressor(format, filters=[fast])
    return b"".join([*(coder.compress(ZEROS) for _ in range(SIZE)), coder.flush()])


def zstd_runs(blocks: int = 1 << 14, window: int = 0x38) -> bytes:
    """A zstd frame of run-length blocks, four bytes for 128 KiB each. window: descriptor (RFC 8878)."""
    run, size = 1 << 1, 1 << 17
    block = (run | size << 3).to_bytes(3, "little") + b"\0"
    last = (1 | run | size << 3).to_bytes(3, "little") + b"\0"
    return b"\x28\xb5\x2f\xfd\0" + bytes([window]) + block * (blocks - 1) + last


def zstd_of(plain: bytes) -> bytes:
    import zstandard

    return zstandard.compress(plain, 3)


def archive(entries: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as opened:
        for name, data in entries.items():
            opened.writestr(name, data)
    return buffer.getvalue()


def torch_file(pickled: bytes, **storages: bytes) -> bytes:
    """A torch file with this pickle, deflated."""
    inside = {f"a/data/{key.removeprefix('s')}": data for key, data in storages.items()}
    return archive({"a/data.pkl": pickled, **inside})


def big_storage() -> bytes:
    """A torch file with one tensor of float32 zeros."""
    count = struct.pack("<i", SIZE * MIB // 4)
    pickled = (
        b"\x80\x02}U\x01tctorch._utils\n_rebuild_tensor_v2\n((U\x07storagectorch\nFloatStorage\n"
        b"U\x010U\x03cpuJ" + count + b"tQK\0J" + count + b"\x85K\x01\x85\x89Ntrs."
    )
    return torch_file(pickled.replace(b"Ntrs", b"NtRs"), s0=bytes(SIZE * MIB))


def entry_that_lies() -> bytes:
    """A torch file whose pickle says that it has 99 bytes, and inflates to SIZE."""
    data, raw = archive({"a/data.pkl": b"x" * 99}), deflated(-15)
    start, central = data.index(b"data.pkl") + 8, data.index(b"PK\x01\x02")
    local, directory, end = (
        bytearray(data[:start]), bytearray(data[central:-22]), bytearray(data[-22:]),
    )  # fmt: skip
    struct.pack_into("<L", local, 18, len(raw))
    struct.pack_into("<L", directory, 20, len(raw))
    struct.pack_into("<L", end, 16, len(local) + len(raw))
    return bytes(local + raw + directory + end)


def million_entries() -> bytes:
    """An archive whose directory lists one entry a million times, inside zlib."""
    local = struct.pack("<4s5H3L2H", b"PK\x03\x04", 20, 0, 0, 0, 0, 0, 0, 0, 1, 0) + b"a"
    entry = struct.pack("<4s6H3L5H2L", b"PK\x01\x02", 20, 20, *[0] * 7, 1, *[0] * 6) + b"a"
    directory = entry * MIB
    end = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 9, 9, len(directory), len(local), 0)
    return zlib.compress(local + directory + end, 9)


def wide_text() -> bytes:
    """Short strings, each with one character that makes four bytes of every other."""
    text = ("a" * 240 + "😀").encode()
    return b"\x80\x04(" + (b"\x8c" + bytes([len(text)]) + text) * (60 * MIB // 256) + b"l."


def doubled_tuples() -> bytes:
    """A pickle whose global is named by a tuple that holds the one before twice, forty times over."""
    doublings = b"".join(b"\x940h%ch%c\x86" % (i, i) for i in range(40))
    return b"\x80\x04U\x01a" + doublings + b"\x94h\x28\x93."


def keys_of_one_hash() -> bytes:
    """A dictionary of 60,000 numbers that are all zero modulo 2^61 - 1, which is Python's hash."""
    prime = (1 << 61) - 1
    numbers = [(prime * i).to_bytes(10, "little") for i in range(1, 60_001)]
    return b"\x80\x04}(" + b"".join(b"\x8a\x0a" + number + b"N" for number in numbers) + b"u."


def views_of_one_number() -> bytes:
    """A torch file in which tensors of 4 MiB each view one number."""
    import torch

    buffer = io.BytesIO()
    row = torch.ones(1)
    torch.save({f"t{i}": row.expand(1024, 1024) for i in range(SIZE // 4)}, buffer)
    return buffer.getvalue()


def safetensors_header(text: bytes) -> bytes:
    return zlib.compress(len(text).to_bytes(8, "little") + text, 9)


def script(payload: bytes, undo: str) -> bytes:
    text = base64.b85encode(payload).decode()
    call = undo.replace("DATA", f"base64.b85decode('{text}')")
    return f"import lzma,zlib,zstandard,base64\nexec({call})\n".encode()


def raw_lzma(dictionary: int) -> str:
    """The call of a script that undoes raw lzma."""
    return f"lzma.decompress(DATA,3,None,[{{'id':lzma.FILTER_LZMA2,'dict_size':{dictionary}}}])"


def group_container(remainder: bytes) -> bytes:
    """A container of empty groups with this brotli stream for the rest."""
    streams = [b""] * 7 + [remainder, b""]
    sizes = struct.pack(f"<{1 + len(streams)}I", len(streams), *map(len, streams))
    return b"PGRP" + sizes + b"".join(streams)


def artifact(shape: tuple[int, int], codec: str, codes: bytes, config: str = "{}") -> bytes:
    """An artifact of int8 codes of this shape, of which `codes` are the bytes in a codec's stream."""
    from squeeze import codecs
    from squeeze.artifact.container import assemble
    from squeeze.artifact.header import content_fields
    from squeeze.artifact.layout import TensorRecord

    record = TensorRecord(name="x", shape=shape, kind="uniform", stored="fp16", code_bits=8)
    streams = [(codecs.get("range-planes").wire_id, zeros_by("range-planes", (shape[0],), "u2")),
               (codecs.get(codec).wire_id, codes)]  # fmt: skip
    return assemble(content_fields(json.loads(config), [record]), streams, bytes(8))


def zeros_by(codec: str, shape: tuple[int, ...], dtype: str = "i1") -> bytes:
    """Zeros in a codec's stream."""
    import numpy as np

    from squeeze import codecs

    return codecs.get(codec).encode(np.zeros(shape, dtype))


# name: (file name, how it is made)
BOMBS: dict[str, tuple[str, Callable[[], bytes]]] = {
    "zstd of run-length blocks": ("m.ptz", zstd_runs),
    "zstd with a window of 3.75 TiB": ("m.ptz", lambda: zstd_runs(64, 0xFF)),
    "zstd in zstd": ("m.ptz", lambda: zstd_of(zstd_runs())),
    "zlib": ("m.ptz", lambda: deflated(15)),
    "zlib in zlib": ("m.ptz", lambda: zlib.compress(deflated(15), 9)),
    "gzip": ("m.ptz", lambda: deflated(31)),
    "bzip2": ("m.ptz", lambda: zlib.decompress(base64.b85decode(BZIP2))),
    "xz": ("m.ptz", lambda: lzma_zeros(lzma.FORMAT_XZ)),
    "lzma with a dictionary of 3 GiB": (
        "m.ptz", lambda: b"\x5d" + (3 << 30).to_bytes(4, "little") + b"\xff" * 8 + bytes(99)
    ),
    "brotli": ("m.ptz", brotli_zeros),
    "a byte shuffle": ("m.ptz", lambda: zstd_of(b"BSHF\2" + bytes(63 * MIB))),
    "an artifact of 2^28 weights": (
        "m.sqz", lambda: artifact(LARGE, "zlib", deflated(-15, 256) + b"\x03\0")
    ),
    "an artifact of one row": ("m.sqz", lambda: artifact(WIDE, "context", zeros_by("context", (1, 9)))),
    "an artifact of one row of another codec": (
        "m.sqz", lambda: artifact(WIDE, GAUSSIAN, zeros_by(GAUSSIAN, WIDE))
    ),
    "an artifact with a configuration of lists": (
        "m.sqz", lambda: artifact((1, 1), "raw", b"x", '{"a":[' + "[]," * 2_700_000 + "0]}")
    ),
    "a group container": ("m.ptz", lambda: group_container(brotli_zeros())),
    "a zip entry that lies about its size": ("m.pt", entry_that_lies),
    "a zip directory of a million entries": ("m.ptz", million_entries),
    "a large storage": ("m.pt", big_storage),
    "many views of one number": ("m.pt", views_of_one_number),
    "dictionaries by the million": ("m.pt", lambda: torch_file(b"\x80\x02" + b"}" * (8 * MIB) + b".")),
    "sets by the million": ("m.pt", lambda: torch_file(b"\x80\x04" + b"\x8f" * (4 * MIB) + b".")),
    "a memo of millions": ("m.pt", lambda: torch_file(b"\x80\x04}" + b"\x94" * (8 * MIB) + b".")),
    "wide text": ("m.pt", lambda: torch_file(wide_text())),
    "a list of a million": ("m.pt", lambda: torch_file(b"\x80\x04]\x94(" + b"h\0" * 1_800_000 + b"e.")),
    "a name of doubled tuples": ("m.pt", lambda: torch_file(doubled_tuples())),
    "keys of one hash": ("m.pt", lambda: torch_file(keys_of_one_hash())),
    "a safetensors header of lists": (
        "m.ptz", lambda: safetensors_header(b'{"a":[' + b"[]," * (10 * MIB) + b"0]}")
    ),
    "the largest safetensors header": (
        "m.ptz", lambda: safetensors_header(b'{"a":[' + b"{}," * 2_700_000 + b"0]}")
    ),
    "a script of a million lines": ("train_gpt.py", lambda: b"x\n" * (2 * MIB)),
    "a script of an f-string": ("train_gpt.py", lambda: b'x = f"' + b"{x}" * MIB + b'"\n'),
    "a payload of a million lines": (
        "train_gpt.py", lambda: script(zlib.compress(b"x\n" * (2 * MIB)), "zlib.decompress(DATA)")
    ),
    "a payload of wide text": (
        "train_gpt.py",
        lambda: script(zlib.compress("😀".encode() + b"#" * (62 * MIB)), "zlib.decompress(DATA)"),
    ),
    "a payload of zstd": ("train_gpt.py", lambda: script(zstd_runs(), "zstandard.decompress(DATA)")),
    "a payload of raw deflate": (
        "train_gpt.py", lambda: script(deflated(-15), "zlib.decompress(DATA,-15)")
    ),
    "a payload of raw lzma": (
        "train_gpt.py", lambda: script(lzma_zeros(lzma.FORMAT_RAW), raw_lzma(1 << 20))
    ),
    "a payload with a dictionary of 3 GiB": (
        "train_gpt.py", lambda: script(bytes(range(256)), raw_lzma(3 << 30))
    ),
    "an Ascii85 payload of z": (
        "train_gpt.py",
        lambda: b"import zlib,base64\nexec(zlib.decompress(base64.a85decode('"
        + b"z" * (8 * MIB) + b"')))\n",
    ),
}  # fmt: skip


def _ledger(path: Path) -> object:
    from squeeze.ledger.attribute import attribute_paths
    from squeeze.outside.registry import read

    if path.suffix == ".sqz":
        return attribute_paths([path])
    return read(path.name, path.read_bytes(), with_floors=True)


def _checkpoint(path: Path) -> object:
    from squeeze.checkpoint.read import load_model

    return load_model(path, assume=True)


def _imports(path: Path) -> object:
    from squeeze.submit.imports import imports_of_script

    return imports_of_script(path.read_bytes())


def memory(field: str) -> int:
    """Bytes of this process: `VmRSS` now, `VmHWM` at most since the last reset."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith(field))


def main(folder: Path) -> None:
    """Read `warm/…`, then every file of the folder; a line of JSON for each file and reader."""
    from squeeze.errors import SqueezeError

    base = 0
    for path in [*sorted(folder.glob("warm/*")), *sorted(folder.glob("bombs/*/*"))]:
        if path.parent.name != "warm":
            base = base or memory("VmRSS")
        for reader in (_ledger, _imports if path.suffix == ".py" else _checkpoint):
            gc.collect()  # what is left in cycles of the one before; Python 3.13 waits longer with it
            Path("/proc/self/clear_refs").write_text("5")
            try:
                answer = type(reader(path)).__name__
            except SqueezeError as error:
                answer = f"{type(error).__name__}: {error}"
            except Exception as error:
                answer = f"CRASH {type(error).__name__}: {error}"
            growth = memory("VmHWM") - base
            print(json.dumps([path.parent.name, reader.__name__, growth, answer[:200]]), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
