"""What the seconds of a tuned pack bought."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Gain:
    """Work of a tuned pack, and the cost of the file that it began with.

    updates: number of updates; asked for with `--tune`, it gives the same file again
    seconds: from the first file that fits to the tuned one, rounding included, of all runs that led here
    before: measured cost of that first file in nats per token, on text that nothing learnt from
    """

    updates: int
    seconds: float
    before: float

    def line(self, after: float) -> str:
        """Return the gain as a sentence.

        after: measured cost of the tuned file in nats per token, on the same text

        >>> Gain(500, 412.3, 0.0151).line(0.0103)
        'tuned: 500 updates in 412 s: 0.0151 → 0.0103 nats per token on text that it did not learn from'
        """
        return (
            f"tuned: {self.updates:,} update{'' if self.updates == 1 else 's'} in {self.seconds:.0f} s: "
            f"{self.before:.4f} → {after:.4f} nats per token on text that it did not learn from"
        )
