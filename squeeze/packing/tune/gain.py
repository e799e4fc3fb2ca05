"""What the seconds of a tuned pack bought, and the clock that counts them."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path

from squeeze.errors import SqueezeError
from squeeze.files import read_json, write_atomic
from squeeze.packing.measured import Cost


@dataclass(frozen=True)
class Gain:
    """Work of a tuned pack, and the cost of the file that it began with.

    updates: number of updates; asked for with `--tune`, it gives the same file again
    before: measured cost of that first file in nats per token, on text that nothing learnt from
    labels: share of the text's next tokens in the loss; the rest is the first model's answers
    """

    updates: int
    before: float
    labels: float = 0.0

    def line(self, seconds: float | None, cost: Cost) -> str:
        """Return the gain as a sentence.

        seconds: from the first file that fits to the tuned one; None: not known
        cost: of the file, measured on the same text

        >>> line = Gain(50, 0.0151).line(9.3, Cost(0.01, 0.0103, 8192))
        >>> line.partition(" on ")[0]
        'tuned: 50 updates in 9 s: 0.015100 → 0.010300 nats per token'
        >>> line.partition(" on ")[2]
        '8,192 tokens that it did not learn from'
        """
        labels = f" ({self.labels:.0%} of the loss: the text's next tokens)" if self.labels else ""
        time = "" if seconds is None else f" in {seconds:.0f} s"
        return (
            f"tuned: {self.updates:,} update{'' if self.updates == 1 else 's'}{labels}{time}: "
            f"{self.before:.6f} → {cost.measured:.6f} nats per token on {cost.tokens:,} tokens "
            "that it did not learn from"
        )


class TuningClock:
    """Seconds of tuning, those of interrupted runs included up to the last stage that they kept.

    path: file of the seconds. It is apart from all that is the same whenever a pack is made again
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._begin = time.perf_counter()
        self._earlier = _kept(path)

    @property
    def seconds(self) -> float:
        """Seconds up to now."""
        return time.perf_counter() - self._begin

    def keep(self, stage: str, seconds: float | None = None) -> None:
        """Keep the seconds at the end of a stage. Raises SqueezeError when they cannot be written.

        seconds: other than those up to now
        """
        facts = {"stage": stage, "seconds": self.seconds if seconds is None else seconds}
        write_atomic(self._path, json.dumps(facts).encode() + b"\n")

    def kept(self, stage: str) -> float | None:
        """Return the seconds that an earlier run kept at the end of a stage."""
        return self._earlier.get(stage)

    def resume(self, stage: str) -> None:
        """Go on from the seconds that were kept at the end of a stage, where they were."""
        if stage in self._earlier:
            self._begin = time.perf_counter() - self._earlier[stage]


def _kept(path: Path) -> dict[str, float]:
    """Return the kept seconds by stage; none where the file is missing or damaged."""
    try:
        facts = read_json(path)
        return {str(facts["stage"]): float(facts["seconds"])}
    except (SqueezeError, OSError, ValueError, KeyError, TypeError):
        return {}
