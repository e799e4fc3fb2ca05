"""Text that a tokenizer encodes and decodes: a table and a decoder can share one error.

Bytes of a score are those of the text that tokens decode to. A tokenizer that has no piece for the space
may spell it as the three bytes of sentencepiece's ▁, which its decoder gives back as ▁ and its table
counts as three; one that normalises gives back another text. The first is refused, the second named in
every score.
"""

from __future__ import annotations

import string
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from squeeze.errors import BadData

SPACE = "▁"  # sentencepiece's visible space, U+2581

SAMPLES = {
    "plain words": "Plain words, and a full stop.",
    "spaces between all characters": " ".join(["a", *string.printable[:94], "z"]),
    "a space alone": "\ue000 \ue001",
    "runs of spaces": "two  spaces and   three",
    "line breaks": "one\ntwo\n\n  three",
    "tabs": "a\ttab",
    "capital letters": "UPPER Title lower",
    "accents": "naïve café Grüße",
    "accents apart from their letters": "cafe\u0301",
    "compatibility characters": "ﬁne ½ … ²",
    "unusual spaces": "a\u00a0b\u3000c",
    "rare characters": "日本語 ☃ 🙂",
    "spaces at the end": "the end  ",
}


def check_samples(pieces: Any, count: Callable[[npt.NDArray[np.uint16]], int]) -> list[str]:
    """Return a sentence on the texts that a sentencepiece processor does not give back; none if all.

    count: bytes of a document's tokens, by the table

    Raises BadData when that is more than the decoded text has, or the text has ▁ for spaces.
    """
    lost, unknown = [], False
    for name, text in SAMPLES.items():
        ids = pieces.encode(text)
        decoded, counted = pieces.decode(ids), count(np.array(ids, np.uint16))
        if SPACE in decoded or counted > len(decoded.encode()):
            raise BadData(
                "the tokenizer's bytes are not those of the text",
                expected=f"{len(text.encode())} bytes for {text[:30]!r} ({name})",
                found=f"{counted}, decoded as {decoded[:30]!r}",
                fix="A score would divide by bytes that no text has; use a tokenizer with a piece for"
                " the space, as `squeeze data tokenizer` makes.",
            )
        if decoded != text:
            lost.append(name)
        unknown |= any(pieces.is_unknown(token) for token in ids)
    if not lost:
        return []
    reason = "; characters without a piece vanish and stand for no bytes" if unknown else ""
    return [
        f"the tokenizer does not give back all text ({', '.join(lost)}): bytes are those of the text "
        f"that it gives back{reason}"
    ]
