"""Compressed files: zlib, gzip, bz2, xz, lzma, zstandard, brotli; with or without a byte shuffle inside.

What a stream may inflate to is bounded before anything is allocated, by LIMIT and by RATIO times its
size: weights do not compress sixty-four-fold, bombs do.
"""

from __future__ import annotations

import bz2
import lzma
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np

from squeeze.errors import CorruptData

LIMIT = 1 << 30  # bytes: four for each of the weights an artifact may hold
RATIO = 64
FLOOR = 64 << 20  # bytes any stream may inflate to, however small it is
STEP = 1 << 20  # bytes of output asked for at once,
FED = 1 << 16  # and of input given
MEMORY = 256 << 20  # bytes a decoder may take for its window
MAGICS = {
    b"\xfd7zXZ\x00": "xz", b"\x28\xb5\x2f\xfd": "zstd", b"\x1f\x8b\x08": "gzip", b"BZh": "bz2",
    b"\x5d\x00\x00": "lzma",
}  # fmt: skip
LRZIP = b"LRZI"
SHUFFLE = b"BSHF"  # then the stride in one byte, then the planes one after another


def coder_of(data: memoryview) -> str | None:
    """Name of the coder by the first bytes; None for brotli, which has none, and for anything else."""
    head = bytes(data[:6])
    for magic, coder in MAGICS.items():
        if head.startswith(magic):
            return coder
    if len(head) > 1 and head[0] == 0x78 and int.from_bytes(head[:2], "big") % 31 == 0:
        return "zlib"
    return None


def bound(size: int) -> int:
    """Bytes a stream of `size` may inflate to."""
    return min(LIMIT, max(FLOOR, RATIO * size))


def inflate(
    data: memoryview | bytes, coder: str, what: str, limit: int | None = None
) -> bytes | bytearray:
    """The plain bytes of one whole stream. limit: in bytes; None: `bound` of its size.

    Raises CorruptData: damaged, truncated, followed by other bytes, or inflating past the limit.
    """
    limit = bound(len(data)) if limit is None else limit
    try:
        if coder == "zstd":
            return _zstd(data, limit, what)
        if coder == "brotli":
            return _brotli(data, limit, what)
        return _standard(_decoder(coder), data, limit, what)
    except (zlib.error, lzma.LZMAError, OSError, EOFError, ValueError, MemoryError) as error:
        raise CorruptData(f"{what}: not a whole {coder} stream", found=str(error)[:80]) from None


def _decoder(coder: str) -> Any:
    if coder == "zlib":
        return zlib.decompressobj()
    if coder == "gzip":
        return zlib.decompressobj(31)
    if coder == "bz2":
        return bz2.BZ2Decompressor()
    return lzma.LZMADecompressor(lzma.FORMAT_AUTO, memlimit=MEMORY)


def _standard(decoder: Any, data: memoryview | bytes, limit: int, what: str) -> bytearray:
    return _whole(decoder, decoder.decompress, data, limit, what)


def _whole(
    decoder: Any,
    step: Callable[[memoryview | bytes, int], bytes],
    data: memoryview | bytes,
    limit: int,
    what: str,
) -> bytearray:
    """One stream to its end, a piece at a time. step: what a piece gives, and how much it may."""
    plain = (
        bytearray()
    )  # grows in place: in one call the decoder's blocks would be joined to a copy
    for at in range(0, len(data), FED):
        plain += step(data[at : at + FED], limit + 1 - len(plain))
        if len(plain) > limit:
            raise _bomb(what, limit)
        if decoder.eof:
            left = len(decoder.unused_data) + max(len(data) - at - FED, 0)
            if left:
                raise CorruptData(f"{what}: bytes after the end of the stream", found=left)
            return plain
    raise CorruptData(f"{what}: the stream is cut off", found=f"{len(plain)} bytes of it")


def _bomb(what: str, limit: int, found: object = "more") -> CorruptData:
    return CorruptData(f"{what} inflates too far", expected=f"≤ {limit} bytes", found=found)


def _zstd(data: memoryview | bytes, limit: int, what: str) -> bytearray:
    import zstandard

    try:
        declared = zstandard.get_frame_parameters(bytes(data[:32])).content_size
        unknown = (zstandard.CONTENTSIZE_UNKNOWN, zstandard.CONTENTSIZE_ERROR)
        if declared not in unknown and declared > limit:
            raise _bomb(what, limit, declared)
        decoder = zstandard.ZstdDecompressor(max_window_size=MEMORY).decompressobj()
        # zstandard takes no bound on what a piece gives
        return _whole(decoder, lambda piece, _: decoder.decompress(piece), data, limit, what)
    except zstandard.ZstdError as error:
        raise CorruptData(f"{what}: not a whole zstd stream", found=str(error)[:80]) from None


def _brotli(data: memoryview | bytes, limit: int, what: str) -> bytearray:
    import brotli

    decoder = brotli.Decompressor()
    plain = bytearray()
    try:
        for at in range(0, len(data), FED):
            part = decoder.process(data[at : at + FED], output_buffer_limit=STEP)
            while part:  # it may keep output that would have been too much at once
                plain += part
                if len(plain) > limit:
                    raise _bomb(what, limit)
                if decoder.is_finished():
                    break
                part = decoder.process(b"", output_buffer_limit=STEP)
            if decoder.is_finished():
                left = max(len(data) - at - FED, 0)
                if left:
                    raise CorruptData(f"{what}: bytes after the end of the stream", found=left)
                return plain
    except brotli.error:
        raise CorruptData(f"{what}: not a whole brotli stream") from None
    raise CorruptData(f"{what}: the stream is cut off", found=f"{len(plain)} bytes of it")


def unshuffled(data: bytes | bytearray) -> tuple[bytes | bytearray, int]:
    """(bytes in their own order, stride): undoes a byte shuffle, marked by SHUFFLE or recognised.

    Without the mark, a stride of 2 or 4 is taken when a zip archive's first bytes come out. Stride 0:
    not shuffled.
    """
    if data[:4] == SHUFFLE and len(data) > 5:
        stride = data[4]
        return (_unshuffle(memoryview(data)[5:], stride) if stride > 1 else data[5:]), stride
    for stride in (2, 4):
        starts = [sum(_lengths(len(data), stride)[:plane]) for plane in range(stride)]
        head = bytes(data[start + at] for at in range(4 // stride) for start in starts
                     if start + at < len(data))  # fmt: skip
        if head == b"PK\x03\x04":
            return _unshuffle(memoryview(data), stride), stride
    return data, 0


def _lengths(total: int, stride: int) -> list[int]:
    return [total // stride + (plane < total % stride) for plane in range(stride)]


def _unshuffle(data: memoryview, stride: int) -> bytearray:
    plain = bytearray(len(data))
    # a bytearray's own slices would copy each plane once more
    octets, planes = np.frombuffer(plain, np.uint8), np.frombuffer(data, np.uint8)
    at = 0
    for plane, length in enumerate(_lengths(len(data), stride)):
        octets[plane::stride] = planes[at : at + length]
        at += length
    return plain
