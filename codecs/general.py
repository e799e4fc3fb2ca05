"""General-purpose compressors behind the codec interface.

A codec here is a compressor (bytes to bytes) after a transform (array to bytes). Decompression
never produces more than the expected number of bytes, whatever the payload claims.
"""

from __future__ import annotations

import lzma
import zlib
from typing import Any, Protocol

import numpy as np

from squeeze.codecs.base import Codec, Symbols
from squeeze.errors import CorruptData

# --- transforms: array <-> bytes, little-endian, same number of bytes ---------------------------


class Plain:
    """Transform that leaves the values as they lie."""

    suffix = ""

    def accepts(self, symbols: Symbols) -> bool:
        """Return True where the transform can make a difference to this array."""
        return True

    def forward(self, symbols: Symbols) -> bytes:
        """Return the array's bytes in the transform's order."""
        return symbols.astype(symbols.dtype.newbyteorder("<"), copy=False).tobytes()

    def backward(self, raw: bytes, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Symbols:
        """Return the array that `forward` gave these bytes of."""
        return np.frombuffer(raw, dtype.newbyteorder("<")).astype(dtype).reshape(shape)


class Planes(Plain):
    """Transform to all low bytes, then all next bytes, …: each plane has its own statistics."""

    suffix = "-planes"

    def accepts(self, symbols: Symbols) -> bool:
        return symbols.dtype.itemsize > 1

    def forward(self, symbols: Symbols) -> bytes:
        rows = np.frombuffer(super().forward(symbols), np.uint8)
        return rows.reshape(-1, symbols.dtype.itemsize).T.tobytes()

    def backward(self, raw: bytes, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Symbols:
        planes = np.frombuffer(raw, np.uint8).reshape(dtype.itemsize, -1)
        return super().backward(planes.T.tobytes(), shape, dtype)


class Transposed(Plain):
    """Transform to columns one by one: input features resemble themselves more than rows do."""

    suffix = "-transposed"

    def accepts(self, symbols: Symbols) -> bool:
        return symbols.ndim == 2 and min(symbols.shape) > 1

    def forward(self, symbols: Symbols) -> bytes:
        return super().forward(np.ascontiguousarray(symbols.T))

    def backward(self, raw: bytes, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Symbols:
        return np.ascontiguousarray(super().backward(raw, shape[::-1], dtype).T)


# --- compressors: bytes <-> bytes ----------------------------------------------------------------


class Compressor(Protocol):
    """Bytes to fewer bytes and back."""

    name: str

    def compress(self, raw: bytes) -> bytes:
        """Return the compressed stream of `raw`."""

    def decompress(self, data: bytes, size: int) -> bytes:
        """Return the bytes of a stream, at most `size` and a small block. Raises CorruptData."""


def _check_end(name: str, ended: bool) -> None:
    """Raise CorruptData unless a stream of compressor `name` ended where its bytes end."""
    if not ended:
        raise CorruptData(f"{name}: the stream does not end where its bytes end")


class Stored:
    """Compressor that leaves bytes as they are."""

    name = "raw"

    def compress(self, raw: bytes) -> bytes:
        return raw

    def decompress(self, data: bytes, size: int) -> bytes:
        return data


class Deflate:
    """Raw deflate of the standard library, level 9."""

    name = "zlib"

    def compress(self, raw: bytes) -> bytes:
        coder = zlib.compressobj(9, zlib.DEFLATED, -15, 9)
        return coder.compress(raw) + coder.flush()

    def decompress(self, data: bytes, size: int) -> bytes:
        coder = zlib.decompressobj(-15)
        try:
            raw = coder.decompress(data, size + 1)
        except zlib.error as error:
            raise CorruptData(f"zlib: {error}") from None
        _check_end(self.name, coder.eof and not coder.unused_data)
        return raw


class Lzma2:
    """Raw LZMA2 of the standard library, its extreme preset."""

    name = "lzma"

    @staticmethod
    def _filters(size: int) -> list[dict[str, int]]:
        # The dictionary follows the size on both sides, so a payload cannot ask for more memory.
        dictionary = min(max(1 << (size - 1).bit_length(), 4096), 1 << 26)
        preset = 9 | lzma.PRESET_EXTREME
        return [{"id": lzma.FILTER_LZMA2, "preset": preset, "dict_size": dictionary}]

    def compress(self, raw: bytes) -> bytes:
        return lzma.compress(raw, lzma.FORMAT_RAW, filters=self._filters(len(raw)))

    def decompress(self, data: bytes, size: int) -> bytes:
        coder = lzma.LZMADecompressor(lzma.FORMAT_RAW, filters=self._filters(size))
        try:
            raw = coder.decompress(data, size + 1)
            if len(raw) == size and not coder.eof:
                raw += coder.decompress(b"", 1)  # step over the end marker
        except (lzma.LZMAError, EOFError) as error:
            raise CorruptData(f"lzma: {error}") from None
        _check_end(self.name, coder.eof and not coder.unused_data)
        return raw


class Zstandard:
    """Zstandard frames with their content size, level 22."""

    name = "zstd"

    def compress(self, raw: bytes) -> bytes:
        import zstandard

        coder = zstandard.ZstdCompressor(level=22, write_checksum=False, write_dict_id=False)
        return coder.compress(raw)

    def decompress(self, data: bytes, size: int) -> bytes:
        import zstandard

        try:
            claimed = zstandard.get_frame_parameters(data).content_size
            if claimed != size:  # zstandard allocates what the frame claims
                raise CorruptData("zstd: wrong content size", expected=size, found=claimed)
            return zstandard.ZstdDecompressor().decompress(
                data, max_output_size=size, allow_extra_data=False
            )
        except zstandard.ZstdError as error:
            raise CorruptData(f"zstd: {error}") from None


class Brotli:
    """Brotli, quality 11, with the smallest window that holds the bytes."""

    name = "brotli"

    def compress(self, raw: bytes) -> bytes:
        import brotli

        window = min(max((len(raw) - 1).bit_length(), 10), 24)
        return brotli.compress(raw, mode=brotli.MODE_GENERIC, quality=11, lgwin=window)

    def decompress(self, data: bytes, size: int) -> bytes:
        import brotli

        coder = brotli.Decompressor()
        try:
            raw = coder.process(data, output_buffer_limit=size + 1)
            while not coder.is_finished() and len(raw) <= size:
                more = coder.process(b"", output_buffer_limit=size + 1 - len(raw))
                if not more:
                    break
                raw += more
        except brotli.error as error:
            raise CorruptData(f"brotli: {error}") from None
        _check_end(self.name, coder.is_finished())
        return raw


# --- codecs --------------------------------------------------------------------------------------


class General(Codec):
    """Codec that compresses the bytes of a transform."""

    def __init__(self, wire_id: int, compressor: Compressor, transform: Plain) -> None:
        self.name = compressor.name + transform.suffix
        self.wire_id = wire_id
        self._compressor = compressor
        self._transform = transform

    def accepts(self, symbols: Symbols) -> bool:
        return self._transform.accepts(symbols)

    def _encode(self, symbols: Symbols) -> bytes:
        return self._compressor.compress(self._transform.forward(symbols))

    def _decode(self, data: bytes, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Symbols:
        size = int(np.prod(shape)) * dtype.itemsize
        raw = self._compressor.decompress(data, size)
        if len(raw) != size:
            raise CorruptData(f"{self.name}: wrong content size", expected=size, found=len(raw))
        return self._transform.backward(raw, shape, dtype)


def codecs() -> list[General]:
    """Return every general codec, by rising wire id from 1."""
    pairs: list[tuple[Compressor, Plain]] = [(Stored(), Plain())]
    compressors: list[Compressor] = [Deflate(), Lzma2(), Zstandard(), Brotli()]
    for compressor in compressors:
        pairs += [(compressor, Plain()), (compressor, Planes()), (compressor, Transposed())]
    return [General(wire_id, *pair) for wire_id, pair in enumerate(pairs, start=1)]
