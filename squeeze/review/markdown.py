"""Text of strangers inside Markdown: shown as it is, neither markup nor a mention of anyone."""

from __future__ import annotations

import re

from squeeze.errors import printable

MARKUP = re.compile(r"([\\`*_\[\]|~])")


def as_markdown(text: str) -> str:
    r"""Return text on one line for a cell of a table.

    >>> print(as_markdown("a|b <img> @name *x* https://host"))
    a\|b &lt;img&gt; (at)name \*x\* https: //host
    """
    text = printable(" ".join(text.split())).replace("&", "&amp;")
    text = MARKUP.sub(r"\\\1", text)
    for mark, shown in (("<", "&lt;"), (">", "&gt;"), ("@", "(at)"), ("://", ": //")):
        text = text.replace(mark, shown)
    return re.sub(r"(?i)\bwww\.", "www .", text)
