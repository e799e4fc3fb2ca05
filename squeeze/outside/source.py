"""Python source of strangers as a syntax tree: parsed only when it is short enough to be parsed.

A syntax tree takes up to two kilobytes of memory for each token, so it is tokens that are bounded. A
literal counts as one, and so does the payload of a self-extracting script.
"""

from __future__ import annotations

import ast
import re
import warnings
from functools import cached_property
from itertools import islice

MAX_SCRIPT = 16 << 20  # bytes of a script, or of the code inside; the challenge's limit is below
MAX_TOKENS = 200_000  # the longest script of the field has 45,000
_TOKEN = re.compile(r"\w+|[^\w\s]|\n")
_LITERALS = re.compile(
    r'"""(?:[^"\\]|\\.|"(?!""))*+"""'
    r"|'''(?:[^'\\]|\\.|'(?!''))*+'''"
    r'|"[^"\\\n]*+(?:\\.[^"\\\n]*+)*+"'
    r"|'[^'\\\n]*+(?:\\.[^'\\\n]*+)*+'"
    r"|#[^\n]*+"
    rf"|{_TOKEN.pattern}",
    re.DOTALL,
)
_CODE_IN_TEXT = re.compile(r"\b(?:f|fr|rf)[\"']", re.IGNORECASE)  # an f-string


class Source:
    """A file of code: its bytes, and its text and tree, which are made at most once and if needed."""

    def __init__(self, raw: bytes) -> None:
        self.raw = raw

    @cached_property
    def encoding(self) -> str:
        """Encoding of the text: latin-1 where the file says so, else UTF-8."""
        first = self.raw[:200].lower().replace(b"-", b"").replace(b" ", b"")
        latin = b"coding:l1" in first or b"coding:latin" in first or b"coding:iso8859" in first
        return "latin-1" if latin else "utf-8"

    @cached_property
    def text(self) -> str:
        """Text without a byte order mark."""
        return self.raw.decode(self.encoding, "surrogateescape").removeprefix("\ufeff")

    @property
    def short(self) -> bool:
        """True where memory to parse it is bounded: at most MAX_SCRIPT bytes and MAX_TOKENS tokens."""
        return len(self.raw) <= MAX_SCRIPT and not _too_long(self.text)

    @cached_property
    def tree(self) -> ast.Module | None:
        """Syntax tree; None for a file that `parsed` refuses."""
        return None if len(self.raw) > MAX_SCRIPT else parsed(self.text)


def parsed(text: str) -> ast.Module | None:
    """Return the syntax tree; None for text that is no Python or has more than MAX_TOKENS tokens."""
    if len(text) > MAX_SCRIPT or _too_long(text):
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # escapes that do not exist warn when parsed
            return ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def _too_long(text: str) -> bool:
    # The code inside an f-string has a node for each of its tokens, too.
    token = _TOKEN if _CODE_IN_TEXT.search(text) else _LITERALS
    return next(islice(token.finditer(text), MAX_TOKENS, None), None) is not None
