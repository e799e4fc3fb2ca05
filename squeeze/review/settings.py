"""Settings that a log prints before the first step, told from the source that many logs hold."""

from __future__ import annotations

import re

from squeeze.review.values import parse_leniently

# A line that only source has. From the first to the last of them, a log shows its script.
SOURCE = re.compile(
    r"\s*(?:(?:async )?def \w+ ?\(|class \w+ ?[(:]|import [\w., ]+$|from [\w.]+ import |return\b|"
    r"if __name__|@[\w.]+[(\s]|@[\w.]+$|(?:el)?if [^:]+:|for \w[^:]* in [^:]+:|while [^:]+:|"
    r"with [\w.]+\([^:]*:|else ?:|try ?:|except\b|finally ?:|raise \w|print\(|main\(\)|\"\"\"|''')"
)
PAIR = re.compile(r"([A-Za-z_][\w.-]{0,60})[:=]([^\s:=,;'\"(){}\[\]]{1,200})")
NAME = re.compile(r"([A-Za-z_][\w.]{0,60})[:=]")
CALL = re.compile(r"\w{1,40}\((.*)\)")
STAMP = re.compile(r"\[?\d[\d:.,TZ+/-]{3,40}\]?")  # a date or a time that begins a line
DURATION = re.compile(r"[\d.]+ms")
MOST_JSON = 100_000  # characters of a line
# Names of what a run measures or where it ran, which differ between honest seeds.
OF_THE_RUN = re.compile(
    r"(?:^|_)(?:seeds?|s|run_?id|logfile|log|path|paths|pattern|dir|folder|file|files|rank|port|host|hostname|pid|"
    r"device|date|time|timestamp|ms|elapsed|seconds_used|loss|bpb|memory|mem|tok|tokens_per_second|"
    r"speed|throughput|warmup_step|step|name|exe|checkpoint|resume|uuid|id)$"
)


def pairs_of(lines: list[str]) -> dict[str, str]:
    """Return values by name, as a log prints them: `name:value name=value`, or `  name: value`.

    lines: those before the first step. A line counts when it holds nothing else, and is no source.
    """
    source = [index for index, line in enumerate(lines) if SOURCE.match(line)]
    outside = lines[: source[0]] + lines[source[-1] + 1 :] if source else lines
    settings: dict[str, str] = {}
    for line in outside:
        settings |= _pairs(_words(line.strip()))
    return settings


def comparable(pairs: dict[str, str]) -> dict[str, str]:
    """Return the pairs that honest seeds of one configuration share."""
    return {
        name: value
        for name, value in pairs.items()
        if not OF_THE_RUN.search(name.lower()) and not DURATION.fullmatch(value)
    }


def _words(line: str) -> list[str]:
    """Return the words of a line; of `Name(a=1, b=2)` and of a JSON object a word for each setting.

    The time that a line begins with is left out.
    """
    if line.startswith("{") and len(line) <= MOST_JSON:
        fields = parse_leniently(line.encode(), [])
        return (
            [f"{name}:{value}" for name, value in fields.items()]
            if isinstance(fields, dict)
            else []
        )
    call = CALL.fullmatch(line) if line.endswith(")") else None
    words = (call[1] if call else line).replace(", ", " ").split()
    while words and STAMP.fullmatch(words[0]):
        words = words[1:]
    if len(words) == 2 and NAME.fullmatch(words[0]):
        return [words[0] + words[1]]
    return ["".join(words)] if len(words) == 3 and words[1] in ("=", ":") else words


def _pairs(words: list[str]) -> dict[str, str]:
    """Return the settings that words are, none when one of them is no setting."""
    words = [word.replace("'", "").replace('"', "") for word in words]
    pairs = [PAIR.fullmatch(word) for word in words]
    if not all(pairs):
        return {}
    return {pair[1]: pair[2] for pair in pairs if pair}
