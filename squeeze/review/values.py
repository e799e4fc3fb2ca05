"""Values of JSON that strangers wrote: read without trust, and without an error that ends the work."""

from __future__ import annotations

import codecs
import json
import math
import re
from typing import Any

from squeeze.errors import printable

MOST_TEXT = 32 << 20  # bytes of one log, card, script or JSON file
LONGEST_WHOLE = 20  # characters of an integer of 64 bits
LARGEST = 1e15
NUMERAL = re.compile(
    r"[-+]?\d{1,3}(?:[,_ ]\d{3})+|[-+]?\d{1,18}(?:\.\d{1,18})?(?:[eE][-+]?\d{1,2})?"
)


class Numeral(float):
    """A number of JSON with the digits it was written with."""

    text: str

    def __new__(cls, text: str) -> Numeral:
        number = super().__new__(cls, text)
        number.text = text
        return number

    @property
    def decimals(self) -> int:
        """Digits after the point, as written."""
        return len(self.text.lower().partition("e")[0].partition(".")[2])


class NoNumber(str):
    """A numeral of JSON that is no finite number of 64 bits, as it was written."""


def parse_leniently(data: bytes, faults: list[str]) -> Any:
    """Return the value of JSON; what it repeats or cannot hold is added to `faults`, None when none."""

    def whole(text: str) -> object:
        return int(text) if len(text) <= LONGEST_WHOLE else NoNumber(text)

    def decimal(text: str) -> object:
        value = Numeral(text)
        return value if math.isfinite(value) else NoNumber(text)

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if len(dict(pairs)) < len(pairs):
            names = [name for name, _ in pairs]
            twice = sorted({name for name in names if names.count(name) > 1})[:3]
            faults.append(f"stated twice: {printable(', '.join(twice))[:80]}")
        return dict(pairs)

    try:
        return json.loads(
            data.decode("utf-8-sig", "replace"),
            parse_constant=NoNumber,
            parse_float=decimal,
            parse_int=whole,
            object_pairs_hook=unique,
        )
    except (ValueError, RecursionError) as error:
        kind = "nested too deeply" if isinstance(error, RecursionError) else str(error)
        faults.append(printable(f"not JSON: {kind}")[:120])
        return None


def number_of(value: object) -> float | None:
    """Return the number a value is or spells, None for anything else."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return value if abs(value) < LARGEST else None
    if isinstance(value, str) and not isinstance(value, NoNumber):
        match = NUMERAL.fullmatch(value.strip().removesuffix("bytes").strip()[:60])
        return float(re.sub("[,_ ]", "", match[0])) if match else None
    return None


def decode_text(data: bytes) -> str:
    r"""Return the text of a file: UTF-16 where its mark says so, as Windows writes logs, else UTF-8.

    >>> decode_text("é".encode("utf-16")), decode_text(b"\xef\xbb\xbfa"), decode_text(b"\xff")
    ('é', 'a', '\ufffd')
    """
    marked = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    return data.decode("utf-16" if marked else "utf-8-sig", "replace")


def words_of(name: str) -> list[str]:
    """Return the words of a field's name in small letters.

    >>> words_of("artifactBytes_mean")
    ['artifact', 'bytes', 'mean']
    """
    return re.findall(r"[a-z]+|\d+", re.sub(r"([a-z])([A-Z])", r"\1_\2", name[:200]).lower())
