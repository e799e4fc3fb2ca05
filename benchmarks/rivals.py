"""Outside coders of integer codes, each as `encode(codes) -> bytes` and its inverse.

A coder that is not installed raises `Missing` with the reason, and its row is skipped with it.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from squeeze import codecs

Codes = npt.NDArray[np.int8]


class Missing(Exception):
    """The coder cannot run here, and why."""


@dataclass(frozen=True)
class Coder:
    """int8 arrays to bytes and back.

    whole: sees all matrices in one piece, not one by one. slow: tried in one arrangement only.
    """

    name: str
    encode: Callable[[Codes], bytes]
    decode: Callable[[bytes, tuple[int, ...]], Codes]
    whole: bool = True
    slow: bool = False


def general(name: str, label: str) -> Coder:
    """One of the general compressors that squeeze wraps, at its highest setting."""
    codec = codecs.get(name)
    return Coder(label, codec.encode, lambda data, shape: codec.decode(data, shape, np.int8))


def _need(program: str) -> str:
    path = shutil.which(program)
    if path is None:
        raise Missing(f"program {program} is not installed")
    return path


@dataclass(frozen=True)
class Archiver:
    """A program that packs the file `codes` into `archive` and back, by its arguments."""

    archive: str
    pack: tuple[str, ...]
    unpack: tuple[str, ...]

    def encode(self, codes: Codes) -> bytes:
        """Return the archive of codes."""
        return self._run(self.pack, {"codes": codes.tobytes()}, self.archive)

    def decode(self, data: bytes, shape: tuple[int, ...]) -> Codes:
        """Return the codes of an archive."""
        raw = self._run(self.unpack, {self.archive: data}, "codes")
        return np.frombuffer(raw, np.int8).reshape(shape)

    def _run(self, command: tuple[str, ...], before: dict[str, bytes], after: str) -> bytes:
        program, *arguments = command
        with tempfile.TemporaryDirectory() as folder:
            at = Path(folder)
            for name, data in before.items():
                (at / name).write_bytes(data)
            subprocess.run([_need(program), *arguments], cwd=at, check=True, capture_output=True)
            return (at / after).read_bytes()


ZPAQ = Archiver(
    archive="codes.zpaq",
    pack=("zpaq", "add", "codes.zpaq", "codes", "-m5", "-t2"),
    unpack=("zpaq", "extract", "codes.zpaq", "-t2"),
)
LRZIP = Archiver(
    archive="codes.lrz",
    pack=("lrzip", "-z", "-L9", "-q", "codes"),
    unpack=("lrzip", "-d", "-q", "codes.lrz"),
)


def zpaq() -> Coder:
    """zpaq -m5, as an archive of one file."""
    _need("zpaq")
    return Coder("zpaq -m5", ZPAQ.encode, ZPAQ.decode, slow=True)


def lrzip() -> Coder:
    """lrzip -z -L9, as the records call it."""
    _need("lrzip")
    return Coder("lrzip -z -L9", LRZIP.encode, LRZIP.decode, slow=True)


def constriction() -> Coder:
    """constriction's range coder with a static histogram of each matrix (uint16 counts, shipped)."""
    try:
        from constriction import stream
    except ImportError:
        raise Missing("package constriction is not installed") from None

    def model(counts: npt.NDArray[np.uint16]) -> object:
        shares = counts.astype(np.float64)
        return stream.model.Categorical(shares / shares.sum(), perfect=False)

    def encode(codes: Codes) -> bytes:
        symbols = codes.ravel().astype(np.int32) + 128
        counts = np.bincount(symbols, minlength=256)
        scaled = np.where(counts, np.maximum(counts * 65535 // counts.max(), 1), 0)
        scaled = scaled.astype(np.uint16)
        coder = stream.queue.RangeEncoder()
        coder.encode(symbols, model(scaled))
        low, high = int(scaled.nonzero()[0][0]), int(scaled.nonzero()[0][-1])
        table = bytes([low, high]) + scaled[low : high + 1].tobytes()
        return table + coder.get_compressed().tobytes()

    def decode(data: bytes, shape: tuple[int, ...]) -> Codes:
        low, high = data[0], data[1]
        end = 2 + 2 * (high + 1 - low)
        scaled = np.zeros(256, np.uint16)
        scaled[low : high + 1] = np.frombuffer(data[2:end], np.uint16)
        coder = stream.queue.RangeDecoder(np.frombuffer(data[end:], np.uint32))
        symbols = coder.decode(model(scaled), int(np.prod(shape)))
        return (symbols - 128).astype(np.int8).reshape(shape)

    return Coder("constriction, histogram", encode, decode, whole=False)
