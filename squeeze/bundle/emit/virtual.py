"""The wrapper that recent entries count in place of the script they ship. It is never written to a file.

Minified source, compressed, in base85, with the shortest stub that runs it: records since #1394 name
its size as "code" while a readable script ships. It is measured to be shown beside the true size.
"""

from __future__ import annotations

import base64
import lzma
from dataclasses import dataclass

from squeeze.bundle.load.modules import BundleError

FILTERS = [{"id": lzma.FILTER_LZMA2, "preset": 9 | lzma.PRESET_EXTREME, "dict_size": 1 << 23}]
STUBS = {
    "lzma": "import lzma as L,base64 as B\nexec(L.decompress(B.b85decode('{}'),3,None,"
    "[{'id':L.FILTER_LZMA2}]))",
    "brotli": "import brotli as L,base64 as B\nexec(L.decompress(B.b85decode('{}')))",
}


@dataclass(frozen=True)
class Virtual:
    """A wrapper as a record would count it. made: its minifier with version, coder and encoding."""

    data: bytes
    made: str


def virtual(source: bytes, minified: bool = False) -> Virtual:
    """Return the smaller of the two base85 wrappers of a script. minified: the source already is.

    Raises BundleError when python-minifier or brotli is missing or the source does not parse: another
    count would be compared with something else.
    """
    code, by = (source, "source") if minified else _minified(source)
    wrappers = {coder: wrapped(code, coder) for coder in STUBS}
    coder = min(wrappers, key=lambda name: (len(wrappers[name]), name))
    return Virtual(wrappers[coder], f"{by}, {coder}, base85")


def wrapped(code: bytes, coder: str) -> bytes:
    """Return a base85 wrapper around code, coder `lzma` or `brotli`, that runs as a script."""
    if coder == "lzma":
        payload = lzma.compress(code, lzma.FORMAT_RAW, filters=FILTERS)
    else:
        try:
            import brotli
        except ImportError:
            raise BundleError("brotli is not installed", fix="pip install brotli") from None
        payload = brotli.compress(code, mode=brotli.MODE_TEXT, quality=11)
    return STUBS[coder].replace("{}", base64.b85encode(payload).decode(), 1).encode()


def _minified(source: bytes) -> tuple[bytes, str]:
    try:
        import python_minifier
    except ImportError:
        raise BundleError(
            "python-minifier is not installed", fix="pip install python_minifier"
        ) from None
    from importlib.metadata import version

    try:
        text = python_minifier.minify(
            source, rename_globals=True, remove_literal_statements=True, hoist_literals=False
        )
    except (SyntaxError, ValueError, RecursionError, python_minifier.UnstableMinification) as error:
        raise BundleError("the script cannot be minified", found=str(error)[:200]) from None
    return text.encode(), f"minifier {version('python_minifier')}"
