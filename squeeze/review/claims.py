"""Claims of a submission.json, in whatever spelling: bytes, score, seeds, parents.

A field is recognised by the words of its name: `bytes_total`, `artifact_bytes`, `artifact_size_bytes`
and `total_bytes` say the same. Values that are no numbers where numbers belong are faults.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence, Set
from dataclasses import dataclass
from typing import Any

from squeeze.errors import printable
from squeeze.review.values import NoNumber, number_of, parse_leniently, words_of

CODE_WORDS = {"code", "script", "source"}
MODEL_WORDS = {"model", "weights", "weight", "checkpoint"}
# Bytes of something else: another run, or a part that is not the artifact.
OTHER_WORDS = set(
    "best baseline base parent limit cap raw uncompressed delta batch vocab world hidden context"
    " window chunk".split()
)
STATISTICS = {"mean": "mean", "avg": "mean", "average": "mean", "max": "max", "largest": "max"}
SCORE_WORDS = {"val", "bpb", "loss", "nats", "mean", "avg", "average", "final", "score"}
SPREAD_WORDS = {"std", "stdev", "stddev", "sd", "dev", "deviation", "standard", "sigma"}
RESULT_WORDS = {"result", "results", "metrics", "score", "scores", "final", "eval", "evaluation"}
PARENT_FIELD = re.compile(
    r"(?:^|_)(?:parents?|base|based|baseline|reference|builds?)_?(?:on|pr|submission|record)?$"
)
SEED_FIELDS = ("seed_results", "seeds", "seed_scores", "runs", "results")
MOST_FIELDS = 20_000


@dataclass(frozen=True)
class Stated:
    """A number and the field that states it. statistic: mean, max, or empty for one value."""

    field: str
    value: float
    statistic: str = ""


@dataclass(frozen=True)
class SeedClaim:
    """Claims about one seed: bits a byte, nats a token, bytes of its artifact; None: nothing."""

    seed: int
    bpb: float | None = None
    nats: float | None = None
    total: float | None = None


@dataclass(frozen=True)
class Claims:
    """The statements of one submission.json.

    name: of the file; fields: as parsed, numbers that are none being text
    faults: sentences on values that say nothing
    bpb, nats: of the submission, its mean where one is stated
    bpb_sd, nats_sd: their standard deviations over the seeds
    parents: texts and numbers that name what it was made from
    """

    name: str
    fields: dict[str, Any]
    faults: tuple[str, ...]
    totals: tuple[Stated, ...]
    code: tuple[Stated, ...]
    model: tuple[Stated, ...]
    bpb: Stated | None
    nats: Stated | None
    bpb_sd: Stated | None
    nats_sd: Stated | None
    seeds: tuple[SeedClaim, ...]
    parents: tuple[str, ...]

    def text(self, field: str) -> str:
        """Return a field that holds text, on one line; empty when it holds none."""
        value = self.fields.get(field)
        return printable(value)[:200] if isinstance(value, str) else ""


def read_claims(name: str, data: bytes) -> Claims:
    """Return what a JSON file states; of one that cannot be read, the reason among its faults."""
    faults: list[str] = []
    fields = parse_leniently(data, faults)
    if not isinstance(fields, dict):
        faults.append(f"{name} is no JSON object")
        fields = {}
    numbers = []
    for path, value in _leaves(fields):
        number = number_of(value)
        if isinstance(value, str) and number is not None and _is_figure(path):
            faults.append(f"{printable('.'.join(path))[:60]} is text: {printable(value)[:40]}")
        if number is not None:
            numbers.append((path, number))
        elif isinstance(value, NoNumber):
            faults.append(f"{printable('.'.join(path))[:60]} is {printable(value)[:20]}, no number")
    sizes = [(kind, stated) for path, number in numbers for kind, stated in _size(path, number)]
    return Claims(
        name,
        fields,
        tuple(faults),
        totals=tuple(stated for kind, stated in sizes if kind == "total"),
        code=tuple(stated for kind, stated in sizes if kind == "code"),
        model=tuple(stated for kind, stated in sizes if kind == "model"),
        bpb=_score(numbers, {"bpb"}),
        nats=_score(numbers, {"loss", "nats"}),
        bpb_sd=_score(numbers, {"bpb"}, SPREAD_WORDS),
        nats_sd=_score(numbers, {"loss", "nats"}, SPREAD_WORDS),
        seeds=tuple(_seeds(fields)),
        parents=tuple(_parents(fields)),
    )


def _leaves(fields: dict[str, Any]) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Yield (path of names, value) of every value inside objects and lists, at most MOST_FIELDS."""
    stack: list[tuple[tuple[str, ...], Any]] = [((), fields)]
    count = 0
    while stack and count < MOST_FIELDS:
        path, value = stack.pop()
        if isinstance(value, dict):
            stack += [((*path, name), inner) for name, inner in reversed(value.items())]
        elif isinstance(value, list):
            stack += [((*path, str(index)), inner) for index, inner in enumerate(value)][::-1]
        else:
            count += 1
            yield path, value


def _is_figure(path: tuple[str, ...]) -> bool:
    """Return whether a field must hold a number: bytes, or a score."""
    words = set(words_of(path[-1]))
    return "bytes" in words or (bool(words & {"bpb", "loss"}) and words <= SCORE_WORDS)


def _size(path: tuple[str, ...], number: float) -> Iterator[tuple[str, Stated]]:
    """Yield (total, code or model; the statement) for a field that states bytes."""
    words = words_of(path[-1])
    is_bytes = bool({"bytes", "size"} & set(words)) and number >= 1
    if not is_bytes or OTHER_WORDS & set(words):
        return
    kind = "code" if CODE_WORDS & set(words) else "model" if MODEL_WORDS & set(words) else "total"
    statistic = next((STATISTICS[word] for word in words if word in STATISTICS), "")
    yield kind, Stated(printable(".".join(path))[:80], number, statistic)


def _score(
    numbers: Sequence[tuple[tuple[str, ...], float]],
    units: set[str],
    statistic: Set[str] = frozenset(),
) -> Stated | None:
    """Return the stated score: at the top of the file, or among its results, the mean before others.

    statistic: words that name one, of which the field must have some
    """
    stated = []
    for path, number in numbers:
        words, above = set(words_of(path[-1])), words_of(path[0] if len(path) == 2 else "")
        at_top = len(path) == 1 or (len(path) == 2 and set(above) <= RESULT_WORDS)
        named = bool(words & statistic) or not statistic
        if at_top and named and words & units and words <= SCORE_WORDS | statistic:
            mean = "mean" if {"mean", "avg", "average"} & words else ""
            rank = (len(path), not mean, len(words))
            stated.append((rank, Stated(printable(".".join(path)), number, mean)))
    return min(stated, key=lambda row: row[0])[1] if stated else None


def _seeds(fields: dict[str, Any]) -> list[SeedClaim]:
    """Return what is stated of each seed, in a list or an object, or of the only one."""
    claims: dict[int, SeedClaim] = {}
    for name in SEED_FIELDS:
        value = fields.get(name)
        if isinstance(value, dict):
            rows = list(value.items())
        elif isinstance(value, list):
            rows = [(_seed_of(row), row) for row in value]
        else:
            continue
        for key, row in rows:
            seed = _whole(key)
            if seed is not None and (seed not in claims or claims[seed].bpb is None):
                claims[seed] = _seed_claim(seed, row)
    only = _whole(fields.get("seed"))
    return list(claims.values()) or ([] if only is None else [SeedClaim(only)])


def _seed_of(row: object) -> object:
    return row.get("seed") if isinstance(row, dict) else row


def _whole(value: object) -> int | None:
    text = re.fullmatch(r"(?:seed[_ -]?)?(\d{1,18})", str(value)) if value is not None else None
    return int(text[1]) if text else None


def _seed_claim(seed: int, row: object) -> SeedClaim:
    if not isinstance(row, dict):
        return SeedClaim(seed)
    numbers = [
        ((str(name),), n) for name, value in row.items() if (n := number_of(value)) is not None
    ]
    bpb, nats = _score(numbers, {"bpb"}), _score(numbers, {"loss", "nats"})
    totals = [s for path, n in numbers for kind, s in _size(path, n) if kind == "total"]
    return SeedClaim(
        seed,
        bpb.value if bpb else None,
        nats.value if nats else None,
        totals[0].value if totals else None,
    )


def _parents(fields: dict[str, Any]) -> Iterator[str]:
    """Yield what the fields name as their parent: text as it is, numbers of pull requests as #N."""
    for name, value in fields.items():
        if PARENT_FIELD.search(name.lower()):
            values = value if isinstance(value, list) else [value]
            for item in values[:20]:
                source = item.get("source") if isinstance(item, dict) else item
                if isinstance(source, str) and source:
                    yield printable(source)[:200]
                elif isinstance(source, int) and not isinstance(source, bool):
                    yield f"#{source}"
