"""Python source of strangers as a syntax tree: parsed only when it is short enough to be parsed.

A syntax tree takes up to two kilobytes of memory for each token, so it is tokens that are bounded. A
literal counts as one, and so does the payload of a self-extracting script.
"""

from __future__ import annotations

import ast
import re
import warnings
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


def text_of(raw: bytes) -> tuple[str, str]:
    """Return the text of a script and its encoding: latin-1 where it says so, else UTF-8."""
    first = raw[:200].lower().replace(b"-", b"").replace(b" ", b"")
    latin = b"coding:l1" in first or b"coding:latin" in first or b"coding:iso8859" in first
    width = "latin-1" if latin else "utf-8"
    return raw.decode(width, "surrogateescape"), width


def parsed_file(raw: bytes) -> tuple[ast.Module, str] | None:
    """Return the syntax tree and the text of a file; None for one that `parsed` refuses."""
    if len(raw) > MAX_SCRIPT:
        return None
    text = text_of(raw)[0].removeprefix("\ufeff")
    tree = parsed(text)
    return None if tree is None else (tree, text)


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
