"""Compressed streams: zlib, gzip, bz2, xz, lzma, zstandard, brotli.

Memory is bounded before it is taken. What a stream may inflate to: LIMIT, and RATIO times its size,
since weights do not compress sixty-four-fold and bombs do. What a decoder takes for its window: WINDOW.
What one call returns: streams are fed in pieces so short that no format can make much of one.
"""

from __future__ import annotations

import bz2
import lzma
import zlib
from typing import Any, Protocol

from squeeze.errors import CorruptData

LIMIT = 1 << 30  # bytes: four for each of the weights an artifact may hold
RATIO = 64
FLOOR = 64 << 20  # bytes any stream may inflate to, however small it is
WINDOW = 128 << 20  # bytes of history a decoder may keep: what zstd -22 and xz -9 ask for
# Bytes of input a decoder is given at once. A zstd block of four bytes stands for 128 KiB and a bzip2
# block of forty for 900 kB, and neither library bounds what a piece gives: so 32 MiB at most.
FED = 1 << 10
STEP = 1 << 20  # bytes of output asked of brotli at once: a few bytes of it stand for any number
MAGICS = {
    b"\xfd7zXZ\x00": "xz",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"\x1f\x8b\x08": "gzip",
    b"BZh": "bz2",
    b"\x5d\x00\x00": "lzma",
}
LRZIP = b"LRZI"
IN_MEMBERS = ("gzip", "bz2", "xz", "zstd")  # formats of one stream or several, one behind the other


def coder_of(data: memoryview) -> str | None:
    """Return the coder's name by the first bytes; None for brotli, which has no magic, and the rest."""
    head = bytes(data[:6])
    for magic, coder in MAGICS.items():
        if head.startswith(magic):
            return coder
    if len(head) > 1 and head[0] == 0x78 and int.from_bytes(head[:2], "big") % 31 == 0:
        return "zlib"
    return None


def bound(size: int) -> int:
    """Return how many bytes a stream of `size` bytes may inflate to."""
    return min(LIMIT, max(FLOOR, RATIO * size))


class Decoder(Protocol):
    """The interface of zlib's, bz2's and lzma's decompression objects.

    `decompress` returns at most `room` bytes, or what FED bytes of input stand for in a format that
    bounds that.
    """

    @property
    def eof(self) -> bool: ...

    @property
    def unused_data(self) -> bytes: ...

    def decompress(self, data: Any, room: int, /) -> bytes | bytearray: ...


class _Zstd:
    """zstandard's decompression object, which takes no bound on its output."""

    def __init__(self) -> None:
        import zstandard

        self._inner = zstandard.ZstdDecompressor(max_window_size=WINDOW).decompressobj()
        self._error = zstandard.ZstdError

    @property
    def eof(self) -> bool:
        return self._inner.eof

    @property
    def unused_data(self) -> bytes:
        return self._inner.unused_data

    def decompress(self, data: Any, room: int) -> bytes:
        try:
            return self._inner.decompress(data)
        except self._error as error:
            raise ValueError(str(error)) from None


class _Brotli:
    """brotli's decompressor; it may hold back output that was too much at once, until asked again."""

    unused_data = b""  # bytes behind the stream's end are an error of its own

    def __init__(self) -> None:
        import brotli

        self._inner = brotli.Decompressor()
        self._error = brotli.error

    @property
    def eof(self) -> bool:
        return bool(self._inner.is_finished())

    def decompress(self, data: Any, room: int) -> bytearray:
        plain = bytearray()
        try:
            part = self._inner.process(data, output_buffer_limit=STEP)
            while part and len(plain) <= room:
                plain += part
                part = b"" if self.eof else self._inner.process(b"", output_buffer_limit=STEP)
        except self._error:
            raise ValueError("damaged") from None
        return plain


def inflate(data: memoryview | bytes, coder: str, what: str, limit: int | None = None) -> bytearray:
    """Return the plain bytes of one whole stream, or of all members of a format that has them.

    coder: a name that `coder_of` returns, "brotli", or "deflate", which is zlib without its header.
    limit: of the plain bytes; None: `bound` of the stream's size.
    Raises CorruptData: damaged, truncated, followed by other bytes, or inflating past the limit.
    """
    limit = bound(len(data)) if limit is None else limit
    if coder == "zstd":
        _check_declared(data, what, limit)
    return drained(_decoder(coder), coder, data, what, limit)


def _decoder(coder: str) -> Decoder:
    if coder == "zstd":
        return _Zstd()
    if coder == "brotli":
        return _Brotli()
    if coder == "bz2":
        return bz2.BZ2Decompressor()
    if coder in ("xz", "lzma"):
        return lzma.LZMADecompressor(lzma.FORMAT_AUTO, memlimit=WINDOW)
    return zlib.decompressobj({"deflate": -15, "zlib": 15, "gzip": 31}[coder])


def drained(
    decoder: Decoder, coder: str, data: memoryview | bytes, what: str, limit: int
) -> bytearray:
    """Return the plain bytes of one whole stream that `decoder` reads. Raises CorruptData.

    coder: name of the format, for errors. limit: of the plain bytes.
    """
    plain = bytearray()  # grows in place
    at = 0
    try:
        while at < len(data):
            piece = data[at : at + FED]
            plain += decoder.decompress(piece, limit + 1 - len(plain))
            at += len(piece)
            if len(plain) > limit:
                raise _bomb(what, limit)
            if decoder.eof:
                at -= len(decoder.unused_data)
                if at == len(data):
                    return plain
                if coder not in IN_MEMBERS or coder_of(memoryview(data)[at:]) != coder:
                    left = len(data) - at
                    raise CorruptData(f"{what}: bytes after the end of the stream", found=left)
                decoder = _decoder(coder)
    except (zlib.error, lzma.LZMAError, OSError, EOFError, ValueError, MemoryError) as error:
        raise CorruptData(f"{what}: not a whole {coder} stream", found=str(error)[:80]) from None
    raise CorruptData(f"{what}: the stream is cut off", found=f"{len(plain)} bytes of it")


def _bomb(what: str, limit: int, size: object = "more") -> CorruptData:
    return CorruptData(f"{what} inflates too far", expected=f"≤ {limit} bytes", found=size)


def _check_declared(data: memoryview | bytes, what: str, limit: int) -> None:
    """Raise CorruptData for a zstd stream that says itself that it is past the limit."""
    import zstandard

    try:
        declared = zstandard.get_frame_parameters(bytes(data[:32])).content_size
    except zstandard.ZstdError as error:
        raise CorruptData(f"{what}: not a whole zstd stream", found=str(error)[:80]) from None
    unknown = (zstandard.CONTENTSIZE_UNKNOWN, zstandard.CONTENTSIZE_ERROR)
    if declared not in unknown and declared > limit:
        raise _bomb(what, limit, declared)
