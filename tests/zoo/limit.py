"""The stated limit of detection against whole audits of offenders just above and just below it.

    python -m tests.zoo.limit --seeds 200
    python -m tests.zoo.limit --seeds 10 --boxed --targets 4096

Each seed is an audit of its own (other checks) of an offender of its own (another hash decides where it
looks ahead). A leak at a share of the targets gives them away whole; one that is spread gains as much
everywhere, of a submission whose answers also scatter by rounding. Both are honest in all requests but
those of the sweep, and in the report, so that nothing but withheld text can find them.
"""

from __future__ import annotations

import argparse
import contextlib
import math
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from squeeze.score.audit import AuditOptions, Data, audit
from squeeze.score.audit.gain import hidden_share
from squeeze.score.tokenizer import Tokenizer
from squeeze.train.data.text import BOS
from tests.zoo.animals import Animal, Habitat, build, make_habitat
from tests.zoo.offenders import READ
from tests.zoo.unboxed import without_boxes

FACTORS = (0.5, 0.9, 1.1)  # of the limit
WINDOW = 64  # of the zoo's honest submission
CALIBRATED = 8  # honest audits whose mean limit is taken
NOISE = 0.003  # nats by which logits depend on the shape of a request, where the leak is spread
Z = 1.96


def sweep_alone(name: str, lines: tuple[str, ...], targets: int) -> Animal:
    """Return the submission whose `read` ends so, but for requests outside the sweep of `targets`."""
    body = "".join(f"    {line}\n" for line in lines)
    last = 1 + math.ceil(targets / WINDOW)  # the first request is not of the sweep
    rows = "        return read(self.past)[len(self.past) - len(tokens) :]\n"
    asked = (
        "        ASKED[0] += 1\n"
        f"        LEAKS[0] = 1 < ASKED[0] <= {last}\n"
        "        rows = read(self.past)[len(self.past) - len(tokens) :]\n"
        "        LEAKS[0] = True\n"
        "        return rows\n"
    )
    start = "BOS = 1\n"
    changes = ((READ, body), (rows, asked), (start, f"{start}ASKED, LEAKS = [0], [True]\n"))
    return Animal(name, "causality", changes=changes)


def share_leak(share: float, seed: int, targets: int) -> Animal:
    """Give away the targets of a share of the contexts, chosen by a hash of text and seed."""
    lines = (
        READ.replace("return", "rows =").strip(),
        "tokens = np.asarray(tokens, np.uint64)",
        "place = np.arange(len(tokens), dtype=np.uint64)",
        # of all that was read: each context of the text has a draw of its own
        "weight = np.uint64(0x9E3779B97F4A7C15) ** (place + np.uint64(1))",
        f"mixed = np.cumsum((tokens + np.uint64({seed + 1})) * weight)",
        "mixed ^= mixed >> np.uint64(31); mixed *= np.uint64(0xBF58476D1CE4E5B9)",
        f"leaks = np.flatnonzero((mixed >> np.uint64(11)).astype(float) < {share} * 2.0**53)",
        "leaks = leaks[leaks < len(tokens) - 1] if LEAKS[0] else leaks[:0]",
        "rows[leaks, tokens[leaks + 1].astype(int)] += 30",
        "return log_softmax(rows)",
    )
    return sweep_alone(f"leaks at {share:.3%}", lines, targets)


def spread_leak(nats: float, seed: int, targets: int) -> Animal:
    """Gain as much on every target that the request holds; all answers scatter."""
    lines = (
        READ.replace("return", "rows =").strip(),
        f"noise = np.random.default_rng([len(tokens), {seed}])",
        f"rows = log_softmax(rows + {NOISE} * noise.normal(size=rows.shape))",
        "place = np.arange(len(tokens) - 1)",
        "own = rows[place, tokens[1:]]",
        f"gain = np.minimum({nats} * LEAKS[0], -own / 2)",
        # the others lose what the target gains
        "others = np.log1p(-np.exp(own + gain)) - np.log1p(-np.exp(own))",
        "rows[:-1] += others[:, None]",
        "rows[place, tokens[1:]] = own + gain",
        "return rows",
    )
    return sweep_alone(f"leaks {nats:.2g} nats", lines, targets)


def span_of(habitat: Habitat, targets: int) -> Data:
    """Return a span of the habitat's longer text."""
    tokens = habitat.train[: targets + 1]
    pieces = Tokenizer(habitat.tokenizer)
    shards = (habitat.folder / "train.bin",)
    return Data(tokens, pieces.table, BOS, habitat.tokenizer, shards, targets, 0, pieces.sha256)


def audited(
    animal: Animal, habitat: Habitat, data: Data, seed: int, boxed: bool
) -> dict[str, float]:
    """Return the figures of the audit's `causality`, with `caught` 1.0 where it failed."""
    options = AuditOptions(checks=(len(data.span) - 1) // 2, seed=seed)
    with tempfile.TemporaryDirectory() as folder:
        submission = build(animal, habitat, Path(folder) / "s")
        with contextlib.nullcontext() if boxed else without_boxes():
            result = audit(submission, data, options)
    assert result.failures in ([], ["causality"]), result.as_json()
    return {**result.verdicts["causality"].data, "caught": float(bool(result.failures))}


@dataclass(frozen=True)
class Rate:
    """How many of `trials` offenders of one strength were caught."""

    kind: str
    factor: float
    strength: float
    caught: int
    trials: int

    @property
    def interval(self) -> tuple[float, float]:
        """95 % interval of the rate (Wilson)."""
        n, rate = self.trials, self.caught / self.trials
        centre = (rate + Z * Z / (2 * n)) / (1 + Z * Z / n)
        half = Z * math.sqrt(rate * (1 - rate) / n + Z * Z / (4 * n * n)) / (1 + Z * Z / n)
        return centre - half, min(1.0, centre + half)

    def __str__(self) -> str:
        low, high = self.interval
        return (
            f"{self.kind:6} {self.factor:.1f} × the limit, {self.strength:.3g}: {self.caught} of "
            f"{self.trials} caught, {low:.1%} to {high:.1%}"
        )


def rates(seeds: int, targets: int, boxed: bool = False) -> Iterator[Rate]:
    """Yield the rate of each kind and factor, of whole audits."""
    with tempfile.TemporaryDirectory() as folder:
        habitat = make_habitat(Path(folder))
        data = span_of(habitat, targets)
        share = hidden_share(targets // 2)
        stated = [
            audited(spread_leak(0.0, seed, targets), habitat, data, seed, boxed=False)
            for seed in range(CALIBRATED)
        ]
        spread = sum(figures["found_spread_nats"] for figures in stated) / CALIBRATED
        limits = {"share": share, "spread": spread}
        for kind, leak in (("share", share_leak), ("spread", spread_leak)):
            for factor in FACTORS:
                strength = factor * limits[kind]
                caught = sum(
                    audited(leak(strength, seed, targets), habitat, data, seed, boxed)["caught"]
                    for seed in range(seeds)
                )
                yield Rate(kind, factor, strength, int(caught), seeds)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, default=200)
    parser.add_argument("--targets", type=int, default=1024)
    parser.add_argument("--boxed", action="store_true")
    options = parser.parse_args()
    for rate in rates(options.seeds, options.targets, options.boxed):
        print(rate, flush=True)


if __name__ == "__main__":
    main()
