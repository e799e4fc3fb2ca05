"""Facts in one line of a training log: a score, times, sizes, a step.

Every pattern begins with literal text or is of bounded length, so a line costs time proportional to
its length, whatever stands in it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from squeeze.errors import printable

IS = r"\"? {0,2}[:=] {0,2}"  # between a name and its value
NUMBER = r"([-+]?\d{1,15}(?:\.\d{1,20})?(?:[eE][-+]?\d{1,3})?)(?![\d.])"
NATS, BPB = rf"\bval_loss{IS}{NUMBER}", rf"\bval_bpb{IS}{NUMBER}"
BITS = re.compile(BPB)
SCORE = re.compile(rf"{NATS}[^\n]{{0,40}}?{BPB}|{BPB}[^\n]{{0,40}}?{NATS}")
STEP = re.compile(r"\bstep[:=] ?(\d{1,12})\b|(?<![\w./])(\d{1,12})/\d{1,12} (?:train|val)_loss\b")
UNITS = {"ms": 1.0, "s": 1e3, "sec": 1e3, "seconds": 1e3, "m": 6e4, "min": 6e4}
UNIT = "ms|seconds|sec|s|min|m"
TIME = (
    rf"(?:_({UNIT}))?\"? {{0,2}}[:=]? {{0,2}}(\d{{1,15}}(?:\.\d{{1,9}})?)(?: ?({UNIT}))?(?![\w.])"
)
TIMER = re.compile(rf"\btrain(?:ing)?_time{TIME}")
EVALUATION = re.compile(rf"\b(?:total_)?eval(?:uation)?_time{TIME}")
STEP_AVERAGE = re.compile(r"\bstep_avg[:=] ?(\d{1,12}(?:\.\d{1,9})?) ?ms")
SIZE = re.compile(
    r"\b((?:bytes_)?(?:total|budget|submission|artifact|(?:serialized |compressed |quantized )?model|"
    r"code)(?![a-z]))([^:=\n|]{0,48})[:=] {0,2}(\d[\d,]{0,19})( ?bytes)?(?![\d.,])",
    re.IGNORECASE,
)
SAYS_BYTES = re.compile(r"bytes|submission|\bsize")
BARE_LABELS = ("total", "code", "budget")  # that stand before bytes without saying so
VALUE = re.compile(r"\S{1,40}[:=][-+]?[\d.]+\S{0,20}|[-+\d.:,/()]+")  # of a line, no name
MOST_NAME = 60  # characters of a score's name


@dataclass(frozen=True)
class Score:
    """A line `NAME val_loss:X val_bpb:Y`: nats a token, bits a byte.

    nats: None of a line that gives the bits alone
    decimals: digits of the bits per byte after the point, as printed
    """

    name: str
    nats: float | None
    bpb: float
    decimals: int


@dataclass(frozen=True)
class Timer:
    """One reading of the training clock.

    milliseconds: since training began, validation left out
    step: steps done by then, None where the line has none
    average: milliseconds a step by the log's own count, None where the line has none
    unit: milliseconds of the unit it is printed in
    """

    milliseconds: float
    step: int | None
    average: float | None
    unit: float

    @property
    def rounding(self) -> float:
        """Milliseconds by which the time may be less: a clock in minutes is printed with one digit."""
        return self.unit / 20 if self.unit >= UNITS["m"] else 0.0


def step_of(line: str) -> int | None:
    """Return the step of a line that tells a loss or a time within training, None for others."""
    match = STEP.search(line) if "_loss" in line or "train_time" in line else None
    return int(match[1] or match[2]) if match else None


def score_in(line: str) -> Score | None:
    """Return the score of a line; the words before it are its name."""
    match = SCORE.search(line)
    if match is None:
        return None
    nats, bpb = (match[1], match[2]) if match[1] else (match[4], match[3])
    return Score(_name_before(match, line), float(nats), float(bpb), _decimals(bpb))


def bits_in(line: str) -> Score | None:
    """Return the score of a line that gives the bits a byte alone, None for others."""
    match = BITS.search(line)
    if match is None or SCORE.search(line):
        return None
    return Score(_name_before(match, line), None, float(match[1]), _decimals(match[1]))


def _name_before(match: re.Match[str], line: str) -> str:
    words = line[max(0, match.start() - 2 * MOST_NAME) : match.start()].split()
    name = " ".join(word for word in words if not VALUE.fullmatch(word))[:MOST_NAME].strip(' "{(|,')
    return printable(name) or "score"


def _decimals(number: str) -> int:
    return len(number.lower().partition("e")[0].partition(".")[2])


def timers_in(line: str, step: int | None) -> list[Timer]:
    """Return the readings of the training clock in a line of this step."""
    average = STEP_AVERAGE.search(line)
    mean = float(average[1]) if average else None
    return [Timer(value * unit, step, mean, unit) for value, unit in _times(TIMER, line)]


def evaluations_in(line: str) -> list[float]:
    """Return the seconds of the evaluations that a line times."""
    return [value * unit / 1000 for value, unit in _times(EVALUATION, line)]


def sizes_in(line: str) -> list[tuple[str, int]]:
    """Return (total, model or code; bytes) of each size in a line."""
    return [
        (_kind(match[1]), int(match[3].replace(",", "")))
        for match in SIZE.finditer(line)
        if _is_size(match)
    ]


def _times(pattern: re.Pattern[str], line: str) -> Iterator[tuple[float, float]]:
    """Yield (value, milliseconds of its unit) of each time; the unit stands in the name or behind."""
    for match in pattern.finditer(line):
        unit = match[3] or match[1]
        if unit:
            yield float(match[2]), UNITS[unit]


def _is_size(match: re.Match[str]) -> bool:
    """Return whether a named number is bytes: it says so, or its name does and it is large."""
    label = f"{match[1]}{match[2]}".lower().strip(" \"'")
    large = len(match[3]) > 3
    return bool(match[4]) or (large and (label in BARE_LABELS or bool(SAYS_BYTES.search(label))))


def _kind(words: str) -> str:
    """Return total, model or code for the words that begin a size."""
    return next((kind for kind in ("model", "code") if kind in words.lower()), "total")
