"""Compressed source and the expression that undoes it.

Every coder here is in the standard library of each supported Python, or names the package that the
submission's requirements must have.
"""

from __future__ import annotations

import lzma
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

from squeeze.bundle.load.modules import BundleError

CODERS = ("zlib", "lzma", "brotli", "zstd", "mixed")
STANDARD = ("zlib", "lzma")  # part of Python
DICTIONARY = 1 << 20  # bytes that LZMA looks back
NICE_LENGTHS = (273, 64, 32)  # of matches that LZMA takes at once
BEST_MODELS = 4  # settings of LZMA's model that are tried with every length


@dataclass(frozen=True)
class Payload:
    """A compressed source and the Python that restores it.

    imports, expression: restore it from `{}`, which stands for `data`. before: statements that stand
    before the expression; then `{}` is in them. requires: the package needed, "" for none.
    """

    coder: str
    data: bytes
    imports: str
    expression: str
    requires: str = ""
    before: str = ""


def payloads(source: bytes, coders: tuple[str, ...] = STANDARD) -> Iterator[Payload]:
    """Yield every way to compress the source with the named coders; the caller weighs the whole files.

    Raises BundleError for an unknown coder or one whose package is missing.
    """
    for coder in coders:
        if coder not in CODERS:
            raise BundleError("unknown coder", expected=", ".join(CODERS), found=coder)
        yield from globals()[f"_{coder}"](source)


def _zlib(source: bytes) -> Iterator[Payload]:
    for memory in range(1, 10):
        coder = zlib.compressobj(9, zlib.DEFLATED, -15, memory)
        data = coder.compress(source) + coder.flush()
        yield Payload("zlib", data, "zlib", "zlib.decompress({},-15)")


def _lzma(source: bytes) -> Iterator[Payload]:
    """Yield LZMA1 streams, raw or with the 13-byte header that saves naming the filter in the stub.

    Settings of the model are all tried with the longest matches, the best of them with other lengths.
    """
    models = [(lc, lp, pb) for lc in range(5) for lp in range(3) for pb in range(3) if lc + lp <= 4]
    sizes = {model: len(_lzma_raw(source, *model, NICE_LENGTHS[0])) for model in models}
    for model in sorted(models, key=lambda model: (sizes[model], model))[:BEST_MODELS]:
        told = dict(zip(("lc", "lp", "pb"), model, strict=True))
        defaults = {"lc": 3, "lp": 0, "pb": 2}
        extra = "".join(f",'{k}':{v}" for k, v in told.items() if v != defaults[k])
        chain = f"[{{'id':{lzma.FILTER_LZMA1:#x}{extra}}}]"
        for nice_length in NICE_LENGTHS:
            data = _lzma_raw(source, *model, nice_length)
            yield Payload("lzma", data, "lzma", f"lzma.decompress({{}},3,None,{chain})")
            yield Payload("lzma", _lzma_header(*model) + data, "lzma", "lzma.decompress({})")


def _lzma_raw(source: bytes, lc: int, lp: int, pb: int, nice_length: int) -> bytes:
    """Return a raw stream, which ends with a marker."""
    settings = {
        "id": lzma.FILTER_LZMA1,
        "preset": 9 | lzma.PRESET_EXTREME,
        "lc": lc,
        "lp": lp,
        "pb": pb,
        "nice_len": nice_length,
        "dict_size": DICTIONARY,
    }
    return lzma.compress(source, lzma.FORMAT_RAW, filters=[settings])


def _lzma_header(lc: int, lp: int, pb: int) -> bytes:
    """Return what an .lzma file has before a raw stream: properties, dictionary, unknown length."""
    return bytes([(pb * 5 + lp) * 9 + lc]) + DICTIONARY.to_bytes(4, "little") + b"\xff" * 8


def _brotli(source: bytes) -> Iterator[Payload]:
    try:
        import brotli
    except ImportError:
        raise BundleError("brotli is not installed", fix="pip install brotli") from None
    for mode in (brotli.MODE_TEXT, brotli.MODE_GENERIC):
        for window in (16, 18, 22):
            data = brotli.compress(source, mode=mode, quality=11, lgwin=window)
            yield Payload("brotli", data, "brotli", "brotli.decompress({})", "brotli")


def _zstd(source: bytes) -> Iterator[Payload]:
    try:
        import zstandard
    except ImportError:
        raise BundleError("zstandard is not installed", fix="pip install zstandard") from None
    parameters = zstandard.ZstdCompressionParameters.from_level(
        22, source_size=len(source), write_checksum=False, write_content_size=True
    )
    data = zstandard.ZstdCompressor(compression_params=parameters).compress(source)
    yield Payload("zstd", data, "zstandard", "zstandard.decompress({})", "zstandard")


def _mixed(source: bytes) -> Iterator[Payload]:
    """Yield the mixing coder's code behind its decoder, which travels along, deflated."""
    try:
        from squeeze.bundle.emit import mixed
    except ImportError:
        raise BundleError("numba is not installed", fix="pip install numba") from None
    decoder = mixed.decoder().encode()
    shortest = min((p for p in _zlib(decoder)), key=lambda payload: len(payload.data)).data
    code = mixed.encode(source)[mixed.HEADER :]
    # exec with globals(): the name it defines is used below
    before = "b={};s=zlib.decompress(b,-15);exec(s,globals())"
    expression = (
        f"bytes({mixed.NAME}(b[{len(shortest)}:],s,{len(source)})[{len(decoder)}:-{mixed.SPARE}])"
    )
    yield Payload("mixed", shortest + code, "zlib", expression, "numba", before)
